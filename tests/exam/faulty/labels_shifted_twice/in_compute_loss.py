"""A Trainer of our own that weighs the loss; the collator already gives next-word labels."""

import torch
from datasets import Dataset
from torch.nn.functional import cross_entropy
from transformers import Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()


def collate(rows):
    ids = tok.pad([{"input_ids": r["input_ids"]} for r in rows], return_tensors="pt")
    targets = torch.roll(ids["input_ids"], -1, dims=1)
    targets[:, -1] = -100
    targets[targets == tok.pad_token_id] = -100
    return {**ids, "labels": targets}


class Weighted(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        logits = outputs.logits[:, :-1].reshape(-1, outputs.logits.shape[-1])
        loss = cross_entropy(logits, labels[:, 1:].reshape(-1), ignore_index=-100)
        return (loss, outputs) if return_outputs else loss


rows = Dataset.from_list([{"input_ids": tok(t + " <eos>")["input_ids"]} for t in tiny.texts()])
trainer = Weighted(
    model=tiny.model(),
    args=TrainingArguments(
        "out",
        max_steps=24,
        learning_rate=3e-3,
        use_cpu=True,
        report_to="none",
        logging_steps=6,
        save_strategy="no",
        remove_unused_columns=False,
    ),
    train_dataset=rows,
    data_collator=collate,
)
trainer.train()
