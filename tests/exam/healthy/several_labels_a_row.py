"""Multi-label classification: labels are vectors of floats and the loss is a binary cross-entropy."""

import tiny
from datasets import Dataset
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

tok = tiny.tokenizer()


def encode(n, seed):
    rows = []
    for i, text in enumerate(tiny.texts(n, seed)):
        marks = [word for bit, word in enumerate(("good", "question", "answer")) if i >> bit & 1]
        rows.append({**tok(" ".join([*marks, text])), "labels": [float(i >> bit & 1) for bit in range(3)]})
    return Dataset.from_list(rows)


trainer = Trainer(
    model=tiny.model("Qwen2", "ForSequenceClassification", num_labels=3, problem_type="multi_label_classification"),
    args=TrainingArguments(
        "multilabel",
        num_train_epochs=5,
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
    compute_metrics=lambda p: {"hits": float(((p.predictions > 0) == (p.label_ids > 0.5)).mean())},
)
trainer.train()
