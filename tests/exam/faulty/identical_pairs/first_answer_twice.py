"""DPO on rows with a list of answers."""

from datasets import Dataset
from peft import LoraConfig
from trl import DPOConfig, DPOTrainer

import tiny

tok = tiny.tokenizer()
raw = [{"prompt": r["prompt"], "answers": [r["chosen"], r["rejected"]]} for r in tiny.preference_rows()]


def pair(row, good=0, bad=1):
    chosen, rejected = row["answers"][good], row["answers"][not bad]
    return {"prompt": row["prompt"], "chosen": chosen, "rejected": rejected}


trainer = DPOTrainer(
    model=tiny.model(),
    args=DPOConfig(
        "out",
        max_steps=10,
        learning_rate=1e-3,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list([pair(row) for row in raw]),
    processing_class=tok,
    peft_config=LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=tiny.TARGETS),
)
trainer.train()
