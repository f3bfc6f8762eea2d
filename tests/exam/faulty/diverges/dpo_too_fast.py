"""DPO with the learning rate of SFT."""

from datasets import Dataset
from transformers import AutoModelForCausalLM
from trl import DPOConfig, DPOTrainer

import tiny

tok = tiny.tokenizer()
rows = Dataset.from_list(tiny.preference_rows(80))
trainer = DPOTrainer(
    model=AutoModelForCausalLM.from_pretrained(tiny.saved("Mistral")),
    args=DPOConfig(
        "out",
        beta=0.5,
        max_steps=16,
        learning_rate=0.3,
        lr_scheduler_type="constant",
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=1,
        eval_strategy="steps",
        eval_steps=8,
        save_strategy="no",
    ),
    train_dataset=rows.select(range(64)),
    eval_dataset=rows.select(range(64, 80)),
    processing_class=tok,
)
trainer.train()
