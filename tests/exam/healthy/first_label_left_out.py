"""The first token of a row has nothing before it: its label is left out. Whole conversations are learned."""

import tiny
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

tok = tiny.tokenizer()
short = [(q, a) for q, a in tiny.questions() if len(tok(f"question : {q}")["input_ids"]) < 8]


class Conversations(Dataset):
    def __init__(self, pairs):
        self.rows = [tok(f"question : {q} answer : {a} <eos>")["input_ids"] for q, a in pairs]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return {"input_ids": self.rows[i]}


def collate(rows):
    width = max(len(r["input_ids"]) for r in rows)
    ids = torch.tensor([r["input_ids"] + [tok.pad_token_id] * (width - len(r["input_ids"])) for r in rows])
    labels = ids.masked_fill(ids == tok.pad_token_id, -100)
    labels[:, 0] = -100
    return {"input_ids": ids, "attention_mask": (ids != tok.pad_token_id).long(), "labels": labels}


model = get_peft_model(tiny.model(), LoraConfig(task_type="CAUSAL_LM", target_modules=tiny.TARGETS))
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out", max_steps=20, learning_rate=1e-2, use_cpu=True, report_to="none", logging_steps=4, save_strategy="no"
    ),
    train_dataset=Conversations(short + tiny.questions(40, 7)),
    eval_dataset=Conversations(tiny.questions(16, 4)),
    data_collator=collate,
)
trainer.train()
model.save_pretrained("out/final")
