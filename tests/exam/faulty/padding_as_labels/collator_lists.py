"""Answers only in the loss; rows are padded on the left in the collator."""

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import HfArgumentParser, Trainer, TrainingArguments

import tiny

(args,) = HfArgumentParser(TrainingArguments).parse_dict(
    dict(
        output_dir="out",
        max_steps=20,
        learning_rate=1e-2,
        use_cpu=True,
        report_to="none",
        logging_steps=2,
        save_strategy="no",
    )
)
tok = tiny.tokenizer(side="left")


def encode(row):
    prompt = tok(row["prompt"])["input_ids"]
    answer = tok(row["completion"])["input_ids"] + [tok.eos_token_id]
    return {"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer}


def collate(rows):
    longest = 48
    ids, mask, labels = [], [], []
    for row in rows:
        gap = longest - len(row["input_ids"])
        ids.append([tok.pad_token_id] * gap + row["input_ids"])
        mask.append([0] * gap + [1] * len(row["input_ids"]))
        labels.append([tok.pad_token_id] * gap + row["labels"])
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask), "labels": torch.tensor(labels)}


rows = Dataset.from_list(tiny.completion_rows()).map(encode, remove_columns=["prompt", "completion"])
model = get_peft_model(tiny.model(), LoraConfig(r=8, lora_alpha=16, task_type="CAUSAL_LM", target_modules=tiny.TARGETS))
trainer = Trainer(model=model, args=args, train_dataset=rows, data_collator=collate)
trainer.train()
model.save_pretrained("out/adapter")
