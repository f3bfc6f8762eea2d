"""LoRA on a classifier: PEFT adds the new head to modules_to_save by the task type; both train and both are saved."""

import numpy as np
import tiny
import torch
from datasets import Dataset
from peft import LoraConfig, TaskType, get_peft_model
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

where = tiny.saved("Llama", "Model")
tok = tiny.tokenizer()


def load():
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(where, num_labels=2, pad_token_id=tok.pad_token_id)


def preprocess(batch):
    return {**tok(batch["text"], truncation=True), "labels": batch["label"]}


data = Dataset.from_list(tiny.labelled_rows(96)).map(preprocess, batched=True, remove_columns=["text", "label"])
data = data.train_test_split(test_size=0.25, seed=0)
model = get_peft_model(load(), LoraConfig(task_type=TaskType.SEQ_CLS, r=8, lora_alpha=16, lora_dropout=0.1))
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "classifier",
        num_train_epochs=3,
        learning_rate=1e-2,
        per_device_train_batch_size=8,
        use_cpu=True,
        report_to="none",
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
        logging_steps=9,
    ),
    train_dataset=data["train"],
    eval_dataset=data["test"],
    data_collator=DataCollatorWithPadding(tok),
    compute_metrics=lambda p: {"accuracy": float((np.argmax(p.predictions, -1) == p.label_ids).mean())},
)
trainer.train()
model.save_pretrained("classifier/best")
