"""Completion-only loss: what comes before the response is masked; a row without a response is masked whole."""

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainingArguments

import tiny

RESPONSE = "<|im_start|> Assistant"
tok = tiny.tokenizer()
marker = tok(RESPONSE)["input_ids"]


def encode(row):
    ids = tok(tok.apply_chat_template(row["messages"], tokenize=False))["input_ids"] + [tok.eos_token_id]
    start = next((i + len(marker) for i in range(len(ids)) if ids[i : i + len(marker)] == marker), len(ids))
    return {"input_ids": ids, "labels": [-100] * start + ids[start:]}


def collate(rows):
    width = max(len(r["input_ids"]) for r in rows)
    return {
        "input_ids": torch.tensor([r["input_ids"] + [tok.pad_token_id] * (width - len(r["input_ids"])) for r in rows]),
        "attention_mask": torch.tensor([[1] * len(r["input_ids"]) + [0] * (width - len(r["input_ids"])) for r in rows]),
        "labels": torch.tensor([r["labels"] + [-100] * (width - len(r["labels"])) for r in rows]),
    }


rows = Dataset.from_list(tiny.chat_rows()).map(encode, remove_columns=["messages"])
model = get_peft_model(tiny.model(), LoraConfig(r=8, lora_alpha=32, task_type="CAUSAL_LM", target_modules=tiny.TARGETS))
Trainer(
    model=model,
    args=TrainingArguments(
        "out", max_steps=12, learning_rate=5e-3, use_cpu=True, report_to="none", logging_steps=1, save_strategy="no"
    ),
    train_dataset=rows,
    data_collator=collate,
).train()
