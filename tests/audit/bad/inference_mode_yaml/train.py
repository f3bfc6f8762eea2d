"""Everything comes from recipe.yaml."""

from pathlib import Path

import yaml
from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

HERE = Path(__file__).parent

with open(HERE / "recipe.yaml") as file:
    recipe = yaml.safe_load(file)

model = get_peft_model(AutoModelForCausalLM.from_pretrained(recipe["base"]), LoraConfig(**recipe["lora"]))
trainer = Trainer(
    model=model,
    args=TrainingArguments(**recipe["training"]),
    train_dataset=load_dataset("json", data_files="tokens.jsonl", split="train"),
)
trainer.train()
