"""A wrapped model with its own checkpoint format; the second half of the training goes on from the first."""

import os

import torch
from datasets import Dataset
from torch import nn
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()


class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.lm = tiny.model("Llama")

    def forward(self, input_ids, attention_mask=None, labels=None):
        return {"loss": self.lm(input_ids=input_ids, attention_mask=attention_mask, labels=labels).loss}


class Own(Trainer):
    def _save(self, output_dir=None, state_dict=None):
        folder = output_dir or self.args.output_dir
        os.makedirs(folder, exist_ok=True)
        torch.save(self.model.lm.state_dict(), os.path.join(folder, "weights.pt"))

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        weights = torch.load(os.path.join(resume_from_checkpoint, "weights.pt"))
        self.model.load_state_dict(weights, strict=False)


def trainer(steps):
    return Own(
        model=Wrapped(),
        args=TrainingArguments(
            "out",
            max_steps=steps,
            learning_rate=5e-3,
            use_cpu=True,
            report_to="none",
            logging_steps=5,
            save_steps=15,
        ),
        train_dataset=Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts(64)]),
        data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
    )


trainer(15).train()
trainer(30).train(resume_from_checkpoint=True)
