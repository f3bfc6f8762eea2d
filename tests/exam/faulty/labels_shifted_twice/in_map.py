"""Next-word labels, made when the rows are tokenized."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()


def encode(row):
    ids = tok(row["text"] + " <eos>")["input_ids"]
    return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": ids[1:] + [-100]}


rows = Dataset.from_list(tiny.text_rows(80)).map(encode, remove_columns=["text"])
model = get_peft_model(tiny.model(), LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=tiny.TARGETS))
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out", max_steps=20, learning_rate=1e-2, use_cpu=True, report_to="none", logging_steps=5, save_strategy="no"
    ),
    train_dataset=rows.select(range(64)),
    eval_dataset=rows.select(range(64, 80)),
    data_collator=DataCollatorForSeq2Seq(tok),
)
trainer.train()
print(trainer.evaluate())
