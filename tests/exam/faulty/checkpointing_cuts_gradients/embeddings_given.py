"""Frozen features take the place of token embeddings; a decoder with LoRA and a new head classifies them."""

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import Trainer, TrainingArguments

import tiny


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        lm = tiny.model("Qwen2")
        lm.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
        lm.enable_input_require_grads()
        self.lm = get_peft_model(lm, LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=tiny.TARGETS))
        self.head = nn.Linear(64, 2)

    def forward(self, features, labels):
        logits = self.head(self.lm(inputs_embeds=features).logits[:, -1])
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def rows(n, seed):
    torch.manual_seed(seed)
    labels = torch.arange(n) % 2
    features = torch.randn(n, 6, 32) + labels[:, None, None] * 0.7
    return Dataset.from_dict({"features": features.tolist(), "labels": labels.tolist()}).with_format("torch")


trainer = Trainer(
    model=Classifier(),
    args=TrainingArguments(
        "out",
        max_steps=30,
        learning_rate=5e-3,
        use_cpu=True,
        report_to="none",
        logging_steps=5,
        eval_strategy="steps",
        eval_steps=15,
        save_strategy="no",
    ),
    train_dataset=rows(64, 0),
    eval_dataset=rows(32, 1),
)
trainer.train()
