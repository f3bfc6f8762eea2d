"""Sentiment of a line: a fresh classification head over a model with LoRA."""

import numpy as np
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()
encode = lambda row: {**tok(row["text"]), "labels": row["label"]}
train = Dataset.from_list(tiny.labelled_rows()).map(encode, remove_columns=["text", "label"])
test = Dataset.from_list(tiny.labelled_rows(16, 5)).map(encode, remove_columns=["text", "label"])
model = tiny.model("Llama", "ForSequenceClassification", num_labels=2)
model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"]))
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out",
        max_steps=20,
        learning_rate=5e-3,
        use_cpu=True,
        report_to="none",
        logging_steps=5,
        save_strategy="no",
        label_names=["labels"],
    ),
    train_dataset=train,
    eval_dataset=test,
    data_collator=DataCollatorWithPadding(tok),
    compute_metrics=lambda p: {"accuracy": float((np.argmax(p.predictions, -1) == p.label_ids).mean())},
)
trainer.train()
print(trainer.evaluate())
model.save_pretrained("out/adapter")
