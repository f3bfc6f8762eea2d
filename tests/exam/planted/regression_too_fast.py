"""A model of one score a text, trained as a whole with a constant learning rate that is far too high."""

from datasets import Dataset
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()
rows = [{**tok(text), "labels": len(text.split()) / 10} for text in tiny.texts(80)]
trainer = Trainer(
    model=tiny.model("Llama", "ForSequenceClassification", num_labels=1, problem_type="regression"),
    args=TrainingArguments(
        "out",
        max_steps=10,
        learning_rate=1.0,
        max_grad_norm=0.0,
        lr_scheduler_type="constant",
        use_cpu=True,
        report_to="none",
        logging_steps=1,
        eval_strategy="steps",
        eval_steps=5,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(rows[:64]),
    eval_dataset=Dataset.from_list(rows[64:]),
    data_collator=DataCollatorWithPadding(tok),
)
trainer.train()
