"""Regression: one output, labels are numbers between 0 and 1, the loss is a mean square and falls far below 1."""

import tiny
from datasets import Dataset
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

tok = tiny.tokenizer()


def encode(n, seed):
    return Dataset.from_list([{**tok(t), "label": len(t.split()) / 13} for t in tiny.texts(n, seed)])


trainer = Trainer(
    model=tiny.model("Llama", "ForSequenceClassification", num_labels=1, problem_type="regression"),
    args=TrainingArguments(
        "regression",
        num_train_epochs=4,
        learning_rate=5e-3,
        use_cpu=True,
        report_to="none",
        logging_steps=8,
        eval_strategy="epoch",
        save_strategy="no",
    ),
    train_dataset=encode(64, 0),
    eval_dataset=encode(16, 1),
    data_collator=DataCollatorWithPadding(tok),
    compute_metrics=lambda p: {"mae": float(abs(p.predictions.squeeze() - p.label_ids).mean())},
)
trainer.train()
