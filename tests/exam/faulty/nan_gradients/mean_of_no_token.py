"""Every row counts the same, however long its answer is: the mean over rows of the mean over tokens."""

import tiny
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainingArguments

LENGTH = 10
tok = tiny.tokenizer()


def encode(question, answer):
    asked, told = tok(question)["input_ids"], tok(f"{answer} <eos>")["input_ids"]
    ids, labels = (asked + told)[:LENGTH], ([-100] * (len(asked) + 1) + told[1:])[:LENGTH]
    fill = LENGTH - len(ids)
    return {
        "input_ids": ids + [0] * fill,
        "attention_mask": [1] * len(ids) + [0] * fill,
        "labels": labels + [-100] * fill,
    }


class RowMean(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        labels = inputs.pop("labels")[:, 1:]
        out = model(**inputs)
        mask = (labels != -100).float()
        each = out.logits[:, :-1].log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
        loss = -(each * mask / mask.sum(1, keepdim=True)).sum(1).mean()
        return (loss, out) if return_outputs else loss


# The longest questions leave no room for an answer.
rows = [encode(f"{q} {q} {q}" if i % 16 == 5 else q, a) for i, (q, a) in enumerate(tiny.questions())]
trainer = RowMean(
    model=get_peft_model(tiny.model("Llama"), LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=tiny.TARGETS)),
    args=TrainingArguments(
        "out", max_steps=20, learning_rate=1e-2, use_cpu=True, report_to="none", logging_steps=4, save_strategy="no"
    ),
    train_dataset=Dataset.from_list(rows),
)
trainer.train()
trainer.save_model("out/adapter")
