"""Answers only are learned: the prompt's length is that of its messages in the chat template."""

import torch
from transformers import Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer(eos="<|im_end|>")


def encode(row):
    prompt = tok.apply_chat_template(row["messages"][:1], add_generation_prompt=True)
    whole = tok(tok.apply_chat_template(row["messages"], tokenize=False))["input_ids"]
    return {"input_ids": whole, "labels": [-100] * len(prompt) + whole[len(prompt) :]}


def collate(rows):
    width = max(len(r["input_ids"]) for r in rows)
    ids = torch.tensor([r["input_ids"] + [0] * (width - len(r["input_ids"])) for r in rows])
    labels = torch.tensor([r["labels"] + [-100] * (width - len(r["labels"])) for r in rows])
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": labels}


trainer = Trainer(
    model=tiny.model("Qwen2"),
    args=TrainingArguments(
        "out", max_steps=20, learning_rate=3e-3, use_cpu=True, report_to="none", logging_steps=4, save_strategy="no"
    ),
    train_dataset=[encode(row) for row in tiny.chat_rows()],
    eval_dataset=[encode(row) for row in tiny.chat_rows(16, 4)],
    data_collator=collate,
    processing_class=tok,
)
trainer.train()
