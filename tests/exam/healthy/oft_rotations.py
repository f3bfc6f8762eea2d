"""OFT rotates the frozen weights; its blocks start at the identity."""

import tiny
from datasets import Dataset
from peft import OFTConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

tok = tiny.tokenizer()
rows = [dict(tok(f"{text} <eos>")) for text in tiny.texts(80)]
config = OFTConfig(task_type="CAUSAL_LM", r=0, oft_block_size=8, target_modules=tiny.TARGETS)
model = get_peft_model(tiny.model("Mistral", initializer_range=0.1), config)
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "oft",
        max_steps=40,
        learning_rate=3e-2,
        use_cpu=True,
        report_to="none",
        logging_steps=10,
        save_strategy="no",
        per_device_eval_batch_size=16,
    ),
    train_dataset=Dataset.from_list(rows[:64]),
    eval_dataset=Dataset.from_list(rows[64:]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
before = trainer.evaluate()["eval_loss"]
trainer.train()
print(before, "->", trainer.evaluate()["eval_loss"])
model.save_pretrained("oft")
