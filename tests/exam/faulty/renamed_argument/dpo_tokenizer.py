"""DPO as in the guides of 2024."""

from datasets import Dataset
from peft import LoraConfig
from trl import DPOConfig, DPOTrainer

import tiny

tok = tiny.tokenizer()
trainer = DPOTrainer(
    tiny.model(),
    args=DPOConfig(
        "out",
        max_steps=8,
        learning_rate=1e-3,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=2,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.preference_rows()),
    tokenizer=tok,
    peft_config=LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]),
)
trainer.train()
