"""Labels by hand; padding is not learned."""

import torch
from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

tokenizer = AutoTokenizer.from_pretrained("meta-llama/Llama-2-7b-hf")
tokenizer.pad_token_id = tokenizer.eos_token_id


def collate(rows):
    batch = tokenizer([row["text"] + tokenizer.eos_token for row in rows], padding=True, return_tensors="pt")
    labels = batch["input_ids"].clone()
    labels = labels.masked_fill(labels == tokenizer.pad_token_id, -100)
    return {**batch, "labels": labels}


Trainer(
    model=AutoModelForCausalLM.from_pretrained("meta-llama/Llama-2-7b-hf", torch_dtype=torch.bfloat16),
    args=TrainingArguments("out", remove_unused_columns=False),
    train_dataset=load_dataset("json", data_files="t.jsonl", split="train"),
    data_collator=collate,
).train()
