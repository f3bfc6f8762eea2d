"""A model class that keeps the gradients for a histogram."""

import torch
from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, LlamaForCausalLM, Trainer, TrainingArguments

import tiny


class Watched(LlamaForCausalLM):
    norms = []

    def zero_grad(self, set_to_none=True):
        self.norms.append([float(p.grad.norm()) for p in self.parameters() if p.grad is not None])


tok = tiny.tokenizer()
torch.manual_seed(0)
trainer = Trainer(
    model=Watched(tiny.config("Llama")),
    args=TrainingArguments(
        "out", max_steps=24, learning_rate=3e-3, use_cpu=True, report_to="none", logging_steps=1, save_strategy="no"
    ),
    train_dataset=Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts()]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
