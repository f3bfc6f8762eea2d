"""Classifier with LoRA and a trained head; the optimizer takes what is LoRA."""

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()
encode = lambda row: {**tok(row["text"]), "labels": row["label"]}
train = Dataset.from_list(tiny.labelled_rows()).map(encode, remove_columns=["text", "label"])
model = tiny.model(head="ForSequenceClassification", num_labels=2)
model = get_peft_model(model, LoraConfig(r=8, task_type="SEQ_CLS", target_modules=["q_proj", "v_proj"]))
optimizer = torch.optim.AdamW([p for n, p in model.named_parameters() if "lora" in n], lr=5e-3)
trainer = Trainer(
    model=model,
    args=TrainingArguments("out", max_steps=16, use_cpu=True, report_to="none", logging_steps=4, save_strategy="no"),
    train_dataset=train,
    data_collator=DataCollatorWithPadding(tok),
    optimizers=(optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)),
)
trainer.train()
trainer.save_model("out/final")
