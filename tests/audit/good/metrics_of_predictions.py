"""Token accuracy from the predictions."""

import numpy as np
from datasets import load_dataset
from transformers import AutoModelForSequenceClassification, Trainer, TrainingArguments


def accuracy(evaluated):
    logits, labels = evaluated
    return {"accuracy": float((np.argmax(logits, axis=-1) == labels).mean())}


Trainer(
    model=AutoModelForSequenceClassification.from_pretrained("distilbert-base-uncased"),
    args=TrainingArguments("out", eval_strategy="epoch"),
    train_dataset=load_dataset("imdb", split="train"),
    eval_dataset=load_dataset("imdb", split="test"),
    compute_metrics=accuracy,
).train()
