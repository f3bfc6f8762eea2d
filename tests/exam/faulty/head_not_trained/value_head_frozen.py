"""A scalar head of our own on top of the language model; the backbone is frozen but for LoRA."""

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import Trainer, TrainingArguments

import tiny


class Scored(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.score = nn.Linear(32, 1)

    def forward(self, input_ids, labels=None):
        hidden = self.backbone(input_ids=input_ids, output_hidden_states=True).hidden_states[-1][:, -1]
        value = self.score(hidden).squeeze(-1)
        loss = None if labels is None else nn.functional.mse_loss(value, labels)
        return {"loss": loss, "logits": value}


tok = tiny.tokenizer(side="left")
net = Scored(tiny.model())
net.requires_grad_(False)
net.backbone = get_peft_model(net.backbone, LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]))


def collate(rows):
    ids = tok([r["text"] for r in rows], padding=True, return_tensors="pt")["input_ids"]
    return {"input_ids": ids, "labels": torch.tensor([float(r["label"]) for r in rows])}


trainer = Trainer(
    model=net,
    args=TrainingArguments(
        "out",
        max_steps=20,
        learning_rate=5e-3,
        use_cpu=True,
        report_to="none",
        logging_steps=5,
        save_strategy="no",
        remove_unused_columns=False,
    ),
    train_dataset=Dataset.from_list(tiny.labelled_rows()),
    data_collator=collate,
)
trainer.train()
net.backbone.save_pretrained("out/final")
