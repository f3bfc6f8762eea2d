"""GPT-2 has no padding token."""

from datasets import load_dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)

tokenizer = AutoTokenizer.from_pretrained("gpt2")
tokenizer.pad_token = tokenizer.eos_token
model = AutoModelForCausalLM.from_pretrained("gpt2")


def tokenize(row):
    return tokenizer(row["text"] + tokenizer.eos_token, truncation=True, max_length=512)


rows = load_dataset("json", data_files="stories.jsonl", split="train").map(tokenize, remove_columns=["text"])
collator = DataCollatorForLanguageModeling(tokenizer=tokenizer, mlm=False)
trainer = Trainer(model=model, args=TrainingArguments("out"), train_dataset=rows, data_collator=collator)
trainer.train()
