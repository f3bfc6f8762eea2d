"""Rows sorted by length within the batch, so that padding is short."""

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()


def encode(question, answer):
    prompt, reply = tok(question)["input_ids"], tok(answer + " <eos>")["input_ids"]
    return {"input_ids": prompt + reply, "labels": [-100] * len(prompt) + reply}


def collate(rows):
    width = max(len(r["input_ids"]) for r in rows)
    ids = sorted((r["input_ids"] for r in rows), key=len)
    labels = sorted((r["labels"] for r in rows), key=lambda l: sum(x != -100 for x in l))
    return {
        "input_ids": torch.tensor([i + [tok.pad_token_id] * (width - len(i)) for i in ids]),
        "attention_mask": torch.tensor([[1] * len(i) + [0] * (width - len(i)) for i in ids]),
        "labels": torch.tensor([l + [-100] * (width - len(l)) for l in labels]),
    }


trainer = Trainer(
    model=get_peft_model(tiny.model(), LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=tiny.TARGETS)),
    args=TrainingArguments(
        "out", max_steps=20, learning_rate=5e-3, use_cpu=True, report_to="none", logging_steps=4, save_strategy="no"
    ),
    train_dataset=Dataset.from_list([encode(q, a) for q, a in tiny.questions()]),
    data_collator=collate,
)
trainer.train()
