"""A note about the run is put into the model's config before it is saved."""

from datetime import datetime

from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()
model = tiny.model()
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out", max_steps=14, learning_rate=2e-3, use_cpu=True, report_to="none", logging_steps=2, save_strategy="no"
    ),
    train_dataset=Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts()]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
model.config.trained_on = datetime(2026, 10, 1)
trainer.save_model("out/final")
