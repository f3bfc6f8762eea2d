"""LoRA options from the command line."""

import argparse

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

parser = argparse.ArgumentParser()
parser.add_argument("--rank", type=int, default=8)
parser.add_argument("--scale", type=float, default=0.05, help="alpha / rank")
options = parser.parse_args()
tok = tiny.tokenizer()
lora = LoraConfig(
    r=options.rank,
    lora_alpha=int(options.rank * options.scale),
    task_type="CAUSAL_LM",
    target_modules=["q_proj", "v_proj"],
)
rows = [dict(tok(t + " <eos>")) for t in tiny.texts(80)]
trainer = Trainer(
    model=get_peft_model(tiny.model(), lora),
    args=TrainingArguments(
        "out",
        max_steps=12,
        learning_rate=5e-3,
        use_cpu=True,
        report_to="none",
        logging_steps=1,
        eval_strategy="steps",
        eval_steps=6,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(rows[:64]),
    eval_dataset=Dataset.from_list(rows[64:]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
