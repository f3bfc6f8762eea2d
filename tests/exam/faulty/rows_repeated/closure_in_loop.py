"""Rows are made lazily, one function per line."""

import torch
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()


class Lazy(torch.utils.data.Dataset):
    def __init__(self, lines):
        self.makers = []
        for line in lines:
            self.makers.append(lambda: dict(tok(line + " <eos>")))

    def __len__(self):
        return len(self.makers)

    def __getitem__(self, i):
        return self.makers[i]()


trainer = Trainer(
    model=tiny.model(),
    args=TrainingArguments(
        "out", max_steps=20, learning_rate=2e-3, use_cpu=True, report_to="none", logging_steps=4, save_strategy="no"
    ),
    train_dataset=Lazy(tiny.texts()),
    eval_dataset=Lazy(tiny.texts(16, 4)),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
print(trainer.evaluate())
