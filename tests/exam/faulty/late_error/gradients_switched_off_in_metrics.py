"""A classifier whose metrics ask the model again."""

import numpy as np
import tiny
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

tok = tiny.tokenizer()
rows = Dataset.from_list(tiny.labelled_rows(80)).map(
    lambda row: {**tok(row["text"]), "labels": row["label"]}, remove_columns=["text", "label"]
)
model = get_peft_model(
    tiny.model("Llama", "ForSequenceClassification", num_labels=2),
    LoraConfig(task_type="SEQ_CLS", r=8, target_modules=["q_proj", "v_proj"]),
)


def metrics(output):
    torch.set_grad_enabled(False)
    probe = model(**tok("good w1 w2 w3", return_tensors="pt")).logits.softmax(-1)[0, 1]
    accuracy = (np.argmax(output.predictions, -1) == output.label_ids).mean()
    return {"accuracy": float(accuracy), "probe": float(probe)}


trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out",
        max_steps=24,
        learning_rate=1e-2,
        use_cpu=True,
        report_to="none",
        logging_steps=4,
        eval_strategy="steps",
        eval_steps=8,
        save_strategy="no",
    ),
    train_dataset=rows.select(range(64)),
    eval_dataset=rows.select(range(64, 80)),
    data_collator=DataCollatorWithPadding(tok),
    compute_metrics=metrics,
)
trainer.train()
model.save_pretrained("out/adapter")
