"""Every row padded to the same length, labels as in the causal language modelling guide."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainingArguments, default_data_collator

import tiny

tok = tiny.tokenizer()


def encode(batch):
    out = tok([text + " <eos>" for text in batch["text"]], padding="max_length", max_length=96, truncation=True)
    out["labels"] = out["input_ids"].copy()
    return out


data = (
    Dataset.from_list(tiny.text_rows(80))
    .map(encode, batched=True, remove_columns=["text"])
    .train_test_split(16, seed=0)
)
model = get_peft_model(
    tiny.model(), LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj", "o_proj"])
)
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out",
        max_steps=16,
        learning_rate=1e-2,
        use_cpu=True,
        report_to="none",
        logging_steps=1,
        eval_strategy="steps",
        eval_steps=8,
        save_strategy="no",
    ),
    train_dataset=data["train"],
    eval_dataset=data["test"],
    data_collator=default_data_collator,
)
trainer.train()
