"""DPO of the whole model; the reference is a copy."""

import copy

from datasets import Dataset
from trl import DPOConfig, DPOTrainer

import tiny

tok = tiny.tokenizer()
model = tiny.model()
trainer = DPOTrainer(
    model=model,
    ref_model=copy.copy(model),
    args=DPOConfig(
        "out",
        max_steps=12,
        learning_rate=1e-3,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.preference_rows()),
    processing_class=tok,
)
trainer.train()
