"""Training arguments from an old YAML file."""

import yaml
from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

SETTINGS = """
output_dir: out
max_steps: 12
learning_rate: 0.002
evaluation_strategy: steps
eval_steps: 6
logging_steps: 2
save_strategy: "no"
report_to: none
use_cpu: true
"""
tok = tiny.tokenizer()
rows = [dict(tok(t + " <eos>")) for t in tiny.texts(80)]
Trainer(
    model=tiny.model(),
    args=TrainingArguments(**yaml.safe_load(SETTINGS)),
    train_dataset=Dataset.from_list(rows[:64]),
    eval_dataset=Dataset.from_list(rows[64:]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
).train()
