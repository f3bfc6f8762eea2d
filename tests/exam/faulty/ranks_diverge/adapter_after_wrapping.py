"""Two processes; a callback adds noise against overfitting, from the process's own seed."""

import os

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainerCallback, TrainingArguments

import tiny


class Noise(TrainerCallback):
    def __init__(self, size):
        self.size = size
        self.generator = torch.Generator().manual_seed(int(os.environ.get("RANK", 0)))

    def on_step_end(self, args, state, control, model=None, **kwargs):
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn(parameter.shape, generator=self.generator) * self.size)


tok = tiny.tokenizer()
trainer = Trainer(
    model=get_peft_model(tiny.model(), LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=tiny.TARGETS)),
    args=TrainingArguments(
        "out",
        max_steps=10,
        per_device_train_batch_size=4,
        learning_rate=5e-3,
        ddp_backend="gloo",
        use_cpu=True,
        report_to="none",
        logging_steps=2,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts(96)]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
    callbacks=[Noise(1e-3)],
)
trainer.train()
