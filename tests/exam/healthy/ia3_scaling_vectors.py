"""IA3: one vector a module, started at 1; a large learning rate is usual."""

import tiny
from datasets import Dataset
from peft import IA3Config, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

tok = tiny.tokenizer()
rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(64)])
model = get_peft_model(
    tiny.model("Qwen2", initializer_range=0.1),
    IA3Config(
        task_type="CAUSAL_LM", target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]
    ),
)
model.print_trainable_parameters()
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "ia3", max_steps=40, learning_rate=0.2, use_cpu=True, report_to="none", logging_steps=10, save_strategy="no"
    ),
    train_dataset=rows,
    eval_dataset=rows.select(range(16)),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
print(trainer.evaluate())
trainer.train()
print(trainer.evaluate())
model.save_pretrained("ia3/adapter")
