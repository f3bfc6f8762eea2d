"""The prompt is masked when the rows are made; the language modelling collator pads them."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()


def encode(row):
    prompt = tok(row["prompt"])["input_ids"]
    answer = tok(row["completion"])["input_ids"] + [tok.eos_token_id]
    ids = tok.pad({"input_ids": prompt + answer}, padding="max_length", max_length=24)
    labels = [-100] * len(prompt) + answer
    return {
        "input_ids": ids["input_ids"],
        "attention_mask": ids["attention_mask"],
        "labels": labels + [-100] * (24 - len(labels)),
    }


rows = Dataset.from_list(tiny.completion_rows(80)).map(encode, remove_columns=["prompt", "completion"])
parts = rows.train_test_split(test_size=16, seed=3)
model = get_peft_model(tiny.model(), LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]))
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out", max_steps=20, learning_rate=1e-2, use_cpu=True, report_to="none", logging_steps=5, save_strategy="no"
    ),
    train_dataset=parts["train"],
    eval_dataset=parts["test"],
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
print(trainer.evaluate())
