"""DPO with accumulation, one pair at a time."""

from datasets import Dataset
from peft import LoraConfig
from trl import DPOConfig, DPOTrainer

import tiny

tok = tiny.tokenizer()
trainer = DPOTrainer(
    model=tiny.model(),
    args=DPOConfig(
        "out",
        max_steps=8,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=4,
        learning_rate=1e-3,
        lr_scheduler_type="constant",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.preference_rows()),
    processing_class=tok,
    peft_config=LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=tiny.TARGETS),
)
trainer.train()
