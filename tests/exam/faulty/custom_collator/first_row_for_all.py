"""A collator that stacks what the tokenizer gave."""

import torch
from datasets import Dataset
from transformers import Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()
rows = Dataset.from_list([{"text": t + " <eos>"} for t in tiny.texts(80)])


class Stack:
    def __call__(self, features):
        encoded = [tok(f["text"], padding="max_length", max_length=16, truncation=True) for f in features]
        batch = {key: torch.tensor([encoded[0][key] for _ in features]) for key in encoded[0]}
        batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        return batch


trainer = Trainer(
    model=tiny.model("Llama"),
    args=TrainingArguments(
        "out",
        max_steps=20,
        per_device_train_batch_size=8,
        learning_rate=2e-3,
        remove_unused_columns=False,
        use_cpu=True,
        report_to="none",
        logging_steps=4,
        save_strategy="no",
    ),
    train_dataset=rows.select(range(64)),
    eval_dataset=rows.select(range(64, 80)),
    data_collator=Stack(),
)
trainer.train()
print(trainer.evaluate())
