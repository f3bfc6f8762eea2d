"""An embedding with dropout in front of the model (word dropout)."""

import torch
from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny


class Dropped(torch.nn.Module):
    def __init__(self, inner, rate):
        super().__init__()
        self.inner, self.rate = inner, rate
        self.weight = inner.weight

    def forward(self, ids):
        return torch.nn.functional.dropout(self.inner(ids), self.rate)


tok = tiny.tokenizer()
model = tiny.model()
model.set_input_embeddings(Dropped(model.get_input_embeddings(), 0.2))
rows = [dict(tok(t + " <eos>")) for t in tiny.texts(80)]
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out",
        max_steps=24,
        learning_rate=3e-3,
        use_cpu=True,
        report_to="none",
        logging_steps=6,
        eval_strategy="steps",
        eval_steps=8,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(rows[:64]),
    eval_dataset=Dataset.from_list(rows[64:]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
print([trainer.evaluate()["eval_loss"] for _ in range(3)])
