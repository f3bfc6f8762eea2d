"""The optimizer is made in a helper that takes the model apart into groups."""

import copy

import torch
from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny


def groups(model, decay):
    """Weights decay, norms and biases don't. The model is not touched."""
    model = copy.deepcopy(model)
    flat = [p for n, p in model.named_parameters() if p.ndim == 1]
    deep = [p for n, p in model.named_parameters() if p.ndim > 1]
    return [{"params": deep, "weight_decay": decay}, {"params": flat, "weight_decay": 0.0}]


tok = tiny.tokenizer()
model = tiny.model("Llama")
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out",
        max_steps=12,
        use_cpu=True,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
        lr_scheduler_type="constant",
    ),
    train_dataset=Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts()]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
    optimizers=(torch.optim.AdamW(groups(model, 0.01), lr=3e-3), None),
)
trainer.train()
trainer.save_model("out/final")
