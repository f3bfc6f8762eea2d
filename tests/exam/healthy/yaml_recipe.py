"""A recipe in YAML, read by the script: model, LoRA and training arguments are three sections of it."""

import sys

import tiny
import yaml
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

RECIPE = """
model: {kind: Mistral, num_hidden_layers: 2}
lora: {r: 8, lora_alpha: 16, lora_dropout: 0.05, target_modules: [q_proj, v_proj, o_proj], task_type: CAUSAL_LM}
training:
  output_dir: recipe
  max_steps: 20
  learning_rate: 4.0e-2
  lr_scheduler_type: cosine
  warmup_steps: 2
  logging_steps: 4
  eval_strategy: steps
  eval_steps: 10
  save_strategy: "no"
  report_to: none
  use_cpu: true
"""
if len(sys.argv) > 1:
    with open(sys.argv[1]) as file:
        recipe = yaml.safe_load(file)
else:
    recipe = yaml.safe_load(RECIPE)

tok = tiny.tokenizer()
rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(80)])
model = get_peft_model(tiny.model(**recipe["model"]), LoraConfig(**recipe["lora"]))
trainer = Trainer(
    model=model,
    args=TrainingArguments(**recipe["training"]),
    train_dataset=rows.select(range(64)),
    eval_dataset=rows.select(range(64, 80)),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
