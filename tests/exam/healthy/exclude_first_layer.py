"""target_modules="all-linear" with exclude_modules: the first layer and the down projections are left out on purpose."""

import tiny
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

tok = tiny.tokenizer()
rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(64)])
model = get_peft_model(
    tiny.model("Llama", num_hidden_layers=3),
    LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", exclude_modules=r".*layers\.0\..*|.*down_proj"),
)
print(sorted({n.split(".lora_")[0] for n, _ in model.named_parameters() if "lora_" in n}))
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "excluded",
        max_steps=24,
        learning_rate=1e-2,
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
model.save_pretrained("excluded/adapter")
