"""layers_to_transform: LoRA reaches the last layer only, as asked."""

import tiny
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

tok = tiny.tokenizer()
rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(64)])
model = get_peft_model(
    tiny.model("Qwen2", num_hidden_layers=4),
    LoraConfig(
        task_type="CAUSAL_LM", r=16, target_modules=tiny.TARGETS, layers_to_transform=[3], layers_pattern="layers"
    ),
)
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "upper",
        max_steps=24,
        learning_rate=2e-2,
        use_cpu=True,
        report_to="none",
        logging_steps=4,
        save_strategy="no",
    ),
    train_dataset=rows,
    eval_dataset=rows.select(range(16)),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
print(trainer.evaluate())
