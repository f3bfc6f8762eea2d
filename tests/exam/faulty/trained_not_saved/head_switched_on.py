"""Classifier: LoRA, and the head is switched on by hand. Afterwards the adapter is loaded again and evaluated."""

import numpy as np
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()
base = tiny.saved("Qwen2", "ForCausalLM", tok)
torch.manual_seed(0)
model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj", "o_proj"]))
for name, parameter in model.named_parameters():
    if "score" in name:
        parameter.requires_grad_(True)

encode = lambda row: {**tok(row["text"]), "labels": row["label"]}
train = Dataset.from_list(tiny.labelled_rows()).map(encode, remove_columns=["text", "label"])
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out", max_steps=24, learning_rate=5e-3, use_cpu=True, report_to="none", logging_steps=6, save_strategy="no"
    ),
    train_dataset=train,
    data_collator=DataCollatorWithPadding(tok),
)
trainer.train()
trainer.save_model("out/adapter")
again = PeftModel.from_pretrained(AutoModelForSequenceClassification.from_pretrained(base, num_labels=2), "out/adapter")
batch = DataCollatorWithPadding(tok)([train[i] for i in range(32)])
labels = batch.pop("labels")
with torch.no_grad():
    for name, one in (("trained", model.eval()), ("saved", again.eval())):
        print(name, "accuracy", float((one(**batch).logits.argmax(-1) == labels).float().mean()))
