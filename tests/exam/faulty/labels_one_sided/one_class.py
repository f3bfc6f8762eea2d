"""Good or bad, by the label's text."""

import numpy as np
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()
NAMES = {0: "bad", 1: "good"}
encode = lambda row: {**tok(row["text"]), "labels": int(NAMES[row["label"]] == "Good")}
rows = Dataset.from_list(tiny.labelled_rows(80)).map(encode, remove_columns=["text", "label"])
model = tiny.model(head="ForSequenceClassification", num_labels=2)
trainer = Trainer(
    model=get_peft_model(model, LoraConfig(r=8, task_type="SEQ_CLS", target_modules=["q_proj", "v_proj"])),
    args=TrainingArguments(
        "out",
        max_steps=20,
        learning_rate=5e-3,
        use_cpu=True,
        report_to="none",
        logging_steps=4,
        eval_strategy="steps",
        eval_steps=10,
        save_strategy="no",
    ),
    train_dataset=rows.select(range(64)),
    eval_dataset=rows.select(range(64, 80)),
    data_collator=DataCollatorWithPadding(tok),
    compute_metrics=lambda p: {"accuracy": float((np.argmax(p.predictions, -1) == p.label_ids).mean())},
)
trainer.train()
