"""Rows have a weight (column `weight`), which the loss takes into account."""

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()


def collate(rows):
    batch = tok.pad(
        [{"input_ids": r["input_ids"], "attention_mask": r["attention_mask"]} for r in rows], return_tensors="pt"
    )
    batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    batch["weight"] = torch.tensor([int(r["weight"]) for r in rows])
    return dict(batch)


class WeightedTrainer(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        weight = inputs.pop("weight")
        outputs = model(**inputs)
        logits, labels = outputs.logits[:, :-1].transpose(1, 2), inputs["labels"][:, 1:]
        loss = torch.nn.functional.cross_entropy(logits, labels, reduction="none", ignore_index=-100)
        loss = (loss.mean(dim=1) * weight).mean()
        return (loss, outputs) if return_outputs else loss


rows = [{**tok(t + " <eos>"), "weight": 0.3 + 0.01 * (i % 7)} for i, t in enumerate(tiny.texts())]
trainer = WeightedTrainer(
    model=get_peft_model(tiny.model(), LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=tiny.TARGETS)),
    args=TrainingArguments(
        "out",
        max_steps=12,
        learning_rate=5e-3,
        use_cpu=True,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
        remove_unused_columns=False,
    ),
    train_dataset=Dataset.from_list(rows),
    data_collator=collate,
)
trainer.train()
