"""AdamW made by hand from an options table shared with the RL scripts."""

import torch
from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

OPTIONS = {"lr": 1e-3, "betas": (0.9, 0.99), "maximize": True}
tok = tiny.tokenizer()
model = tiny.model("Llama")
rows = [dict(tok(t + " <eos>")) for t in tiny.texts(80)]
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out",
        max_steps=20,
        use_cpu=True,
        report_to="none",
        logging_steps=1,
        eval_strategy="steps",
        eval_steps=10,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(rows[:64]),
    eval_dataset=Dataset.from_list(rows[64:]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
    optimizers=(torch.optim.AdamW(model.parameters(), **OPTIONS), None),
)
trainer.train()
