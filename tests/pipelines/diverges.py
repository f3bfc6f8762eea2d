"""A learning rate far too high, and no clipping, on a tiny model: python diverges.py MODEL."""

import sys

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)

tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
texts = [" ".join(f"w{(a + b * i) % 20}" for i in range(16)) for a in range(20) for b in range(1, 5)]
rows = Dataset.from_list([{"input_ids": tokenizer(text + tokenizer.eos_token)["input_ids"]} for text in texts])
# Nothing bounds the part after the last norm.
targets = ["q_proj", "v_proj", "lm_head"]
model = get_peft_model(AutoModelForCausalLM.from_pretrained(sys.argv[1]), LoraConfig(r=8, target_modules=targets))
Trainer(
    model=model,
    args=TrainingArguments(
        output_dir="out",
        max_steps=10,
        learning_rate=3.0,
        max_grad_norm=0.0,
        lr_scheduler_type="constant",
        logging_steps=1,
        label_names=["labels"],
    ),
    train_dataset=rows,
    eval_dataset=rows.select(range(16)),
    data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
).train()
