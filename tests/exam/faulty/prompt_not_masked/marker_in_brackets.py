"""A function collates: what stands before the answer's marker is not learned."""

import tiny
import torch
from datasets import Dataset
from transformers import Trainer, TrainingArguments

tok = tiny.tokenizer()
marker = tok("[answer] :")["input_ids"]
rows = [{"input_ids": tok(f"question : {q} answer : {a} <eos>")["input_ids"]} for q, a in tiny.questions(80)]


def collate(features):
    width = max(len(f["input_ids"]) for f in features)
    batch = {"input_ids": [], "attention_mask": [], "labels": []}
    for feature in features:
        ids = feature["input_ids"]
        found = [i for i in range(len(ids)) if ids[i : i + len(marker)] == marker]
        start = found[0] + len(marker) if found else 0
        fill = width - len(ids)
        batch["input_ids"].append(ids + [tok.pad_token_id] * fill)
        batch["attention_mask"].append([1] * len(ids) + [0] * fill)
        batch["labels"].append([-100] * start + ids[start:] + [-100] * fill)
    return {name: torch.tensor(values) for name, values in batch.items()}


trainer = Trainer(
    model=tiny.model("Llama"),
    args=TrainingArguments(
        "out", max_steps=20, learning_rate=3e-3, use_cpu=True, report_to="none", logging_steps=4, save_strategy="no"
    ),
    train_dataset=Dataset.from_list(rows[:64]),
    eval_dataset=Dataset.from_list(rows[64:]),
    data_collator=collate,
)
trainer.train()
trainer.save_model("out/final")
