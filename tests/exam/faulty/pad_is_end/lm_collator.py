"""LoRA on a tiny Qwen2: the tokenizer has no padding token, so the end token pads."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer(pad=None)
tok.pad_token = tok.eos_token


def encode(row):
    return tok(row["text"] + " " + tok.eos_token, truncation=True, max_length=64)


train = Dataset.from_list(tiny.text_rows()).map(encode, remove_columns=["text"])
test = Dataset.from_list(tiny.text_rows(16, seed=7)).map(encode, remove_columns=["text"])
model = get_peft_model(tiny.model(), LoraConfig(r=8, lora_alpha=32, task_type="CAUSAL_LM", target_modules="all-linear"))
args = TrainingArguments(
    output_dir="out",
    max_steps=24,
    per_device_train_batch_size=8,
    learning_rate=5e-3,
    logging_steps=1,
    use_cpu=True,
    report_to="none",
    save_strategy="no",
)
trainer = Trainer(
    model=model,
    args=args,
    train_dataset=train,
    eval_dataset=test,
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
print(trainer.evaluate())
