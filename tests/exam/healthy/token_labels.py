"""Token classification with LoRA: padding has label -100, the head is in modules_to_save by the task type."""

import numpy as np
import tiny
import torch
from datasets import Dataset
from peft import LoraConfig, TaskType, get_peft_model
from transformers import (
    BertConfig,
    BertForTokenClassification,
    DataCollatorForTokenClassification,
    Trainer,
    TrainingArguments,
)

tok = tiny.tokenizer()
torch.manual_seed(0)
base = BertForTokenClassification(
    BertConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        num_labels=3,
        id2label={0: "O", 1: "B-LOW", 2: "B-HIGH"},
    )
)


def tag(word):
    return 0 if int(word[1:]) % 2 else 1 + (int(word[1:]) > 23)


def encode(n, seed):
    return Dataset.from_list([{**tok(t), "labels": [tag(w) for w in t.split()]} for t in tiny.texts(n, seed)])


def metrics(prediction):
    guess = prediction.predictions.argmax(-1)
    real = prediction.label_ids != -100
    return {"accuracy": float((guess == prediction.label_ids)[real].mean()), "tokens": int(np.sum(real))}


model = get_peft_model(
    base, LoraConfig(task_type=TaskType.TOKEN_CLS, r=8, lora_alpha=16, target_modules=["query", "value"])
)
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "tags",
        num_train_epochs=4,
        learning_rate=1e-2,
        use_cpu=True,
        report_to="none",
        logging_steps=8,
        eval_strategy="epoch",
        save_strategy="no",
    ),
    train_dataset=encode(64, 0),
    eval_dataset=encode(16, 1),
    data_collator=DataCollatorForTokenClassification(tok),
    compute_metrics=metrics,
)
trainer.train()
model.save_pretrained("tags/adapter")
