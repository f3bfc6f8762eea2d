"""A Trainer with a compute_loss of the user's own: classes are weighted, because one is rare."""

import numpy as np
import tiny
import torch
from datasets import Dataset
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

tok = tiny.tokenizer()
rare = [row for i, row in enumerate(tiny.labelled_rows(120)) if row["label"] == 0 or i % 6 == 1]


class WeightedTrainer(Trainer):
    weights = torch.tensor([0.5, 2.0])

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = torch.nn.functional.cross_entropy(outputs.logits, labels, weight=self.weights)
        return (loss, outputs) if return_outputs else loss


def metrics(prediction):
    guess = np.argmax(prediction.predictions, axis=-1)
    hits = (guess == 1) & (prediction.label_ids == 1)
    return {"recall": float(hits.sum() / max(1, (prediction.label_ids == 1).sum()))}


data = Dataset.from_list([{**tok(r["text"]), "label": r["label"]} for r in rare])
trainer = WeightedTrainer(
    model=tiny.model("Llama", "ForSequenceClassification", num_labels=2),
    args=TrainingArguments(
        "weighted",
        num_train_epochs=4,
        learning_rate=5e-3,
        use_cpu=True,
        report_to="none",
        logging_steps=5,
        eval_strategy="epoch",
        save_strategy="no",
    ),
    train_dataset=data,
    eval_dataset=data.select(range(24)),
    data_collator=DataCollatorWithPadding(tok),
    compute_metrics=metrics,
)
trainer.train()
print(trainer.evaluate())
