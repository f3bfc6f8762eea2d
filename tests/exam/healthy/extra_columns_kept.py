"""remove_unused_columns=False: rows keep a weight that a collator and a compute_loss of the user's own use."""

import tiny
import torch
from datasets import Dataset
from transformers import Trainer, TrainingArguments

tok = tiny.tokenizer()


def collate(rows):
    batch = tok([row["text"] + " <eos>" for row in rows], return_tensors="pt", padding=True)
    batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    batch["weight"] = torch.tensor([row["weight"] for row in rows])
    return batch


class RowWeights(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        weight = inputs.pop("weight")
        outputs = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        logits, labels = outputs.logits[:, :-1], inputs["labels"][:, 1:]
        each = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
        per_row = each.sum(1) / (labels != -100).sum(1)
        loss = (per_row * weight).sum() / weight.sum()
        return (loss, outputs) if return_outputs else loss


rows = Dataset.from_list([{"text": t, "weight": 0.5 + (i % 3)} for i, t in enumerate(tiny.texts(80))])
trainer = RowWeights(
    model=tiny.model("Llama"),
    args=TrainingArguments(
        "weights",
        num_train_epochs=3,
        learning_rate=5e-3,
        remove_unused_columns=False,
        use_cpu=True,
        report_to="none",
        logging_steps=6,
        eval_strategy="epoch",
        save_strategy="no",
    ),
    train_dataset=rows.select(range(64)),
    eval_dataset=rows.select(range(64, 80)),
    data_collator=collate,
)
trainer.train()
