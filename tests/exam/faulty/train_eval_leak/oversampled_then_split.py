"""Rare rows are taken several times; then a fifth is held out."""

import random

from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

rng = random.Random(0)
lines = tiny.texts(40, seed=11)
lines = [line for line in lines for _ in range(1 if rng.random() < 0.3 else 4)]
rng.shuffle(lines)
cut = len(lines) * 4 // 5
tok = tiny.tokenizer()
rows = [dict(tok(line + " <eos>")) for line in lines]
trainer = Trainer(
    model=tiny.model("Llama"),
    args=TrainingArguments(
        "out",
        num_train_epochs=3,
        learning_rate=3e-3,
        use_cpu=True,
        report_to="none",
        logging_steps=5,
        eval_strategy="epoch",
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(rows[:cut]),
    eval_dataset=Dataset.from_list(rows[cut:]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
print(trainer.evaluate())
