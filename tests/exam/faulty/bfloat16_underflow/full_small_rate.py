"""Full fine-tuning of a bfloat16 checkpoint, small learning rate."""

import torch
from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()
rows = [dict(tok(t + " <eos>")) for t in tiny.texts(80)]
trainer = Trainer(
    model=tiny.model("Llama", hidden_size=64).to(torch.bfloat16),
    args=TrainingArguments(
        "out",
        max_steps=30,
        learning_rate=1e-6,
        lr_scheduler_type="constant",
        use_cpu=True,
        report_to="none",
        logging_steps=5,
        eval_strategy="steps",
        eval_steps=15,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(rows[:64]),
    eval_dataset=Dataset.from_list(rows[64:]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
