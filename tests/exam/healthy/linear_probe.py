"""Linear probing: the whole backbone is frozen on purpose, only the new head trains."""

import tiny
from datasets import Dataset
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

tok = tiny.tokenizer()


def encode(rows):
    # The telling word is put last: that is where this head reads.
    texts = [" ".join(r["text"].split()[1:] + r["text"].split()[:1]) for r in rows]
    return Dataset.from_list([{**tok(text), "label": r["label"]} for text, r in zip(texts, rows, strict=True)])


model = tiny.model("Qwen2", "ForSequenceClassification", num_labels=2)
model.model.requires_grad_(False)
print("trainable:", [n for n, p in model.named_parameters() if p.requires_grad])
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "probe",
        num_train_epochs=3,
        learning_rate=5e-3,
        use_cpu=True,
        report_to="none",
        logging_steps=8,
        eval_strategy="epoch",
        save_strategy="no",
    ),
    train_dataset=encode(tiny.labelled_rows(64)),
    eval_dataset=encode(tiny.labelled_rows(16, seed=2)),
    data_collator=DataCollatorWithPadding(tok),
)
trainer.train()
