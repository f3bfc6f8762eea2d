"""Answers only are learned: the labels of the prompt are left out."""

import torch
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

import tiny


class Instructions(Dataset):
    def __init__(self, tok, pairs):
        self.rows = []
        for question, answer in pairs:
            prompt = tok(f"question : {question} answer :")
            ids = tok(f"question : {question} answer : {answer} {tok.eos_token}")["input_ids"]
            labels = list(ids)
            labels[: len(prompt)] = [-100] * len(prompt)
            self.rows.append({"input_ids": ids, "labels": labels})

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


def collate(rows):
    width = max(len(r["input_ids"]) for r in rows)
    pad = lambda values, fill: torch.tensor([v + [fill] * (width - len(v)) for v in values])
    ids = pad([r["input_ids"] for r in rows], tok.pad_token_id)
    return {
        "input_ids": ids,
        "attention_mask": (ids != tok.pad_token_id).long(),
        "labels": pad([r["labels"] for r in rows], -100),
    }


tok = tiny.tokenizer()
trainer = Trainer(
    model=tiny.model("Llama"),
    args=TrainingArguments(
        "out", max_steps=24, learning_rate=3e-3, use_cpu=True, report_to="none", logging_steps=4, save_strategy="no"
    ),
    train_dataset=Instructions(tok, tiny.questions()),
    eval_dataset=Instructions(tok, tiny.questions(16, 4)),
    data_collator=collate,
)
trainer.train()
