"""Classifier with accuracy at the end."""

import numpy as np
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()
encode = lambda row: {**tok(row["text"]), "labels": row["label"]}
rows = Dataset.from_list(tiny.labelled_rows(80)).map(encode, remove_columns=["text", "label"])


def accuracy(prediction):
    guessed = np.argmax(prediction.predictions, axis=-1)
    return {"accuracy": float(np.mean(guessed[:, 0] == prediction.label_ids))}


model = tiny.model("Llama", "ForSequenceClassification", num_labels=2)
trainer = Trainer(
    model=get_peft_model(model, LoraConfig(r=8, task_type="SEQ_CLS", target_modules=["q_proj", "v_proj"])),
    args=TrainingArguments(
        "out", max_steps=14, learning_rate=5e-3, use_cpu=True, report_to="none", logging_steps=2, save_strategy="no"
    ),
    train_dataset=rows.select(range(64)),
    eval_dataset=rows.select(range(64, 80)),
    data_collator=DataCollatorWithPadding(tok),
    compute_metrics=accuracy,
)
trainer.train()
print(trainer.evaluate())
trainer.save_model("out/final")
