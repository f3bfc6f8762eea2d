"""Question and answer, with a collator of our own that leaves the padding out of the loss. Options come from YAML."""

import yaml
from datasets import Dataset
from torch.nn.utils.rnn import pad_sequence
import torch
from transformers import Trainer, TrainingArguments

import tiny

OPTIONS = yaml.safe_load("""
training:
  output_dir: out
  max_steps: 30
  learning_rate: 0.003
  per_device_train_batch_size: 8
  logging_steps: 5
  use_cpu: true
  report_to: none
  save_strategy: "no"
model: {kind: Llama, hidden_size: 48}
""")


class Pad:
    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def __call__(self, features):
        ids = [torch.tensor(f["input_ids"]) for f in features]
        ids = pad_sequence(ids, batch_first=True, padding_value=self.tokenizer.pad_token_id)
        labels = ids.clone()
        labels[labels == self.tokenizer.pad_token_id] = -100
        mask = torch.zeros_like(ids)
        for i, f in enumerate(features):
            mask[i, : len(f["input_ids"])] = 1
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def main():
    tok = tiny.tokenizer(pad=None)
    if tok.pad_token is None:
        tok.pad_token = tok.eos_token
    rows = [
        {"input_ids": tok(f"question : {q} answer : {a} {tok.eos_token}")["input_ids"]} for q, a in tiny.questions()
    ]
    trainer = Trainer(
        model=tiny.model(**OPTIONS["model"]),
        args=TrainingArguments(**OPTIONS["training"]),
        train_dataset=Dataset.from_list(rows),
        data_collator=Pad(tok),
    )
    trainer.train()
    trainer.save_model("out/final")


if __name__ == "__main__":
    main()
