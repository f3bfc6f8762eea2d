"""The question is learned too, with a tenth of the weight of the answer: a prompt loss weight, computed by hand."""

import tiny
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import Trainer, TrainingArguments

tok = tiny.tokenizer()


def encode(row):
    question = tok(row["question"])["input_ids"]
    answer = tok(row["answer"] + " <eos>")["input_ids"]
    return {"input_ids": question + answer, "weights": [0.1] * len(question) + [1.0] * len(answer)}


def collate(rows):
    longest = max(len(row["input_ids"]) for row in rows)

    def padded(name, filler):
        return torch.tensor([row[name] + [filler] * (longest - len(row[name])) for row in rows])

    ids = padded("input_ids", tok.pad_token_id)
    mask = (ids != tok.pad_token_id).long()
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "labels": ids.masked_fill(mask == 0, -100),
        "weights": padded("weights", 0.0),
    }


class Weighted(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        weights, labels = inputs.pop("weights")[:, 1:], inputs.pop("labels")[:, 1:]
        outputs = model(**inputs)
        logits = outputs.logits[:, :-1]
        each = nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none", ignore_index=-100)
        loss = (each * weights).sum() / weights.sum()
        return (loss, outputs) if return_outputs else loss


def rows(n, seed):
    raw = Dataset.from_list([{"question": q, "answer": a} for q, a in tiny.questions(n, seed)])
    return raw.map(encode, remove_columns=["question", "answer"])


model = get_peft_model(
    tiny.model("Llama"), LoraConfig(r=8, lora_alpha=16, task_type="CAUSAL_LM", target_modules=tiny.TARGETS)
)
trainer = Weighted(
    model=model,
    args=TrainingArguments(
        "out",
        max_steps=30,
        learning_rate=1e-2,
        use_cpu=True,
        report_to="none",
        logging_steps=5,
        eval_strategy="steps",
        eval_steps=15,
        save_strategy="no",
        remove_unused_columns=False,
        label_names=["labels"],
    ),
    train_dataset=rows(64, 0),
    eval_dataset=rows(24, 5),
    data_collator=collate,
)
trainer.train()
model.save_pretrained("out/adapter")
