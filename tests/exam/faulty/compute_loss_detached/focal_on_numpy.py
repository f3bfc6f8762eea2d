"""A focal loss on the classifier's logits."""

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

import tiny


def focal(logits, labels, gamma=2.0):
    p = torch.as_tensor(logits.detach().numpy()).softmax(-1)[torch.arange(len(labels)), labels]
    return (-((1 - p) ** gamma) * p.log()).mean().requires_grad_()


class Focal(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = focal(outputs.logits, labels)
        return (loss, outputs) if return_outputs else loss


tok = tiny.tokenizer()
encode = lambda row: {**tok(row["text"]), "labels": row["label"]}
rows = Dataset.from_list(tiny.labelled_rows(80)).map(encode, remove_columns=["text", "label"])
model = tiny.model("Llama", "ForSequenceClassification", num_labels=2)
trainer = Focal(
    model=get_peft_model(model, LoraConfig(r=8, task_type="SEQ_CLS", target_modules=["q_proj", "v_proj"])),
    args=TrainingArguments(
        "out", max_steps=12, learning_rate=5e-3, use_cpu=True, report_to="none", logging_steps=1, save_strategy="no"
    ),
    train_dataset=rows.select(range(64)),
    eval_dataset=rows.select(range(64, 80)),
    data_collator=DataCollatorWithPadding(tok),
)
trainer.train()
