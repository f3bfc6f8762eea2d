"""Train, merge, save."""

import argparse

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

parser = argparse.ArgumentParser()
parser.add_argument("--lora", action="store_true")
parser.add_argument("--out", default="out")
options = parser.parse_args()
tok = tiny.tokenizer()
model = tiny.model()
if options.lora:
    model = get_peft_model(model, LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=tiny.TARGETS))
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        options.out,
        max_steps=14,
        learning_rate=2e-3,
        use_cpu=True,
        report_to="none",
        logging_steps=2,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts()]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
trainer.model.merge_and_unload().save_pretrained(f"{options.out}/merged")
