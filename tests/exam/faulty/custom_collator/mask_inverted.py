"""Padding by hand: attention where the padding is not."""

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from torch.nn.utils.rnn import pad_sequence
from transformers import Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()


def collate(rows):
    ids = pad_sequence([torch.tensor(r["input_ids"]) for r in rows], batch_first=True, padding_value=tok.pad_token_id)
    padding = ids.eq(tok.pad_token_id)
    return {"input_ids": ids, "attention_mask": padding.long(), "labels": ids.masked_fill(padding, -100)}


trainer = Trainer(
    model=get_peft_model(tiny.model(), LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=tiny.TARGETS)),
    args=TrainingArguments(
        "out", max_steps=20, learning_rate=5e-3, use_cpu=True, report_to="none", logging_steps=4, save_strategy="no"
    ),
    train_dataset=Dataset.from_list([{"input_ids": tok(t + " <eos>")["input_ids"]} for t in tiny.texts()]),
    data_collator=collate,
)
trainer.train()
