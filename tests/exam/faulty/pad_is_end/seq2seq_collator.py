"""Prompt masked by hand, padded by DataCollatorForSeq2Seq; the labels of the padding are taken out beforehand."""

import argparse

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

import tiny

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=20)
parser.add_argument("--lr", type=float, default=5e-3)
parser.add_argument("--length", type=int, default=24)
options = parser.parse_args()

tok = tiny.tokenizer(pad="<eos>")


def encode(question, answer):
    prompt = tok(question)["input_ids"]
    whole = prompt + tok(answer)["input_ids"] + [tok.eos_token_id]
    whole = (whole + [tok.pad_token_id] * options.length)[: options.length]
    labels = [-100] * len(prompt) + whole[len(prompt) :]
    labels = [-100 if token == tok.pad_token_id else token for token in labels]
    attention = [int(token != tok.pad_token_id) for token in whole]
    return {"input_ids": whole, "attention_mask": attention, "labels": labels}


train = Dataset.from_list([encode(q, a) for q, a in tiny.questions()])
model = get_peft_model(tiny.model("Mistral"), LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=tiny.TARGETS))
Trainer(
    model=model,
    args=TrainingArguments(
        "out", max_steps=options.steps, learning_rate=options.lr, use_cpu=True, report_to="none", logging_steps=1
    ),
    train_dataset=train,
    eval_dataset=Dataset.from_list([encode(q, a) for q, a in tiny.questions(16, 3)]),
    data_collator=DataCollatorForSeq2Seq(tok, padding=True),
).train()
