"""DPO with lengths of prompt and answer."""

from datasets import Dataset
from peft import LoraConfig
from trl import DPOConfig, DPOTrainer

import tiny

tok = tiny.tokenizer()
trainer = DPOTrainer(
    model=tiny.model(),
    args=DPOConfig(
        "out",
        max_length=64,
        max_prompt_length=32,
        max_steps=8,
        learning_rate=1e-3,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=2,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.preference_rows()),
    processing_class=tok,
    peft_config=LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]),
)
trainer.train()
