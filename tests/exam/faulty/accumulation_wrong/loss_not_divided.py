"""Smoothed loss in a subclass, with gradient accumulation."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
import torch
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny


class Smoothed(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        logits, labels = outputs.logits[:, :-1].flatten(0, 1), inputs["labels"][:, 1:].flatten()
        loss = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1, ignore_index=-100)
        return (loss, outputs) if return_outputs else loss


tok = tiny.tokenizer()
trainer = Smoothed(
    model=tiny.model("Llama"),
    args=TrainingArguments(
        "out",
        max_steps=8,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=8,
        learning_rate=3e-3,
        use_cpu=True,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts(128)]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
