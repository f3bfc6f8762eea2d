"""A linear schedule of our own; it ends with the training."""

import torch
from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments, get_linear_schedule_with_warmup

import tiny

EPOCHS = 4
tok = tiny.tokenizer()
model = tiny.model()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out", num_train_epochs=EPOCHS, use_cpu=True, report_to="none", logging_steps=1, save_strategy="no"
    ),
    train_dataset=Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts()]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
    optimizers=(optimizer, get_linear_schedule_with_warmup(optimizer, 0, EPOCHS)),
)
trainer.train()
