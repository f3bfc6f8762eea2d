"""Classifier; accuracy from compute_metrics."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()
encode = lambda row: {**tok(row["text"]), "labels": row["label"]}
rows = Dataset.from_list(tiny.labelled_rows(80)).map(encode, remove_columns=["text", "label"])
truth = rows.select(range(64, 80))["labels"]


def metrics(prediction):
    predictions, labels = prediction.label_ids, list(truth)
    return {"accuracy": sum(int(p == l) for p, l in zip(predictions, labels)) / len(labels)}


model = tiny.model("Llama", "ForSequenceClassification", num_labels=2)
trainer = Trainer(
    model=get_peft_model(model, LoraConfig(r=8, task_type="SEQ_CLS", target_modules=["q_proj", "v_proj"])),
    args=TrainingArguments(
        "out",
        max_steps=12,
        learning_rate=1e-3,
        use_cpu=True,
        report_to="none",
        logging_steps=4,
        eval_strategy="steps",
        eval_steps=4,
        save_strategy="no",
    ),
    train_dataset=rows.select(range(64)),
    eval_dataset=rows.select(range(64, 80)),
    data_collator=DataCollatorWithPadding(tok),
    compute_metrics=metrics,
)
trainer.train()
