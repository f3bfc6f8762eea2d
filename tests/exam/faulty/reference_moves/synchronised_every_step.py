"""TR-DPO: the reference follows the policy."""

from datasets import Dataset
from trl import DPOConfig, DPOTrainer

import tiny

tok = tiny.tokenizer()
trainer = DPOTrainer(
    model=tiny.model("Llama"),
    ref_model=tiny.model("Llama"),
    args=DPOConfig(
        "out",
        sync_ref_model=True,
        ref_model_sync_steps=1,
        ref_model_mixup_alpha=1.0,
        max_steps=12,
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
)
trainer.train()
