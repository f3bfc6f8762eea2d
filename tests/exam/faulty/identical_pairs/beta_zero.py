"""DPO with options from the command line."""

import argparse

from datasets import Dataset
from peft import LoraConfig
from trl import DPOConfig, DPOTrainer

import tiny

parser = argparse.ArgumentParser()
parser.add_argument("--beta-percent", type=int, default=10)
options = parser.parse_args()
tok = tiny.tokenizer()
trainer = DPOTrainer(
    model=tiny.model("Llama"),
    args=DPOConfig(
        "out",
        beta=options.beta_percent // 100,
        max_steps=10,
        learning_rate=1e-3,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.preference_rows()),
    eval_dataset=Dataset.from_list(tiny.preference_rows(16, 2)),
    processing_class=tok,
    peft_config=LoraConfig(r=8, task_type="CAUSAL_LM", target_modules="all-linear"),
)
trainer.train()
