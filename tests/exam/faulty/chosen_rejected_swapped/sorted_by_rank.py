"""DPO on ranked answers: the two of a question are ordered by their rank."""

from datasets import Dataset
from peft import LoraConfig
from trl import DPOConfig, DPOTrainer

import tiny

tok = tiny.tokenizer()


def ranked(n, seed):
    return [
        {"prompt": r["prompt"], "answers": [{"text": r["rejected"], "rank": 2}, {"text": r["chosen"], "rank": 1}]}
        for r in tiny.preference_rows(n, seed)
    ]


def pair(row):
    best, worst = sorted(row["answers"], key=lambda a: a["rank"], reverse=True)
    return {"prompt": row["prompt"], "chosen": best["text"], "rejected": worst["text"]}


train = Dataset.from_list([pair(r) for r in ranked(64, 0)])
trainer = DPOTrainer(
    model=tiny.model(),
    args=DPOConfig(
        "out",
        max_steps=24,
        learning_rate=2e-3,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=2,
        eval_strategy="steps",
        eval_steps=8,
        save_strategy="no",
    ),
    train_dataset=train,
    eval_dataset=Dataset.from_list(tiny.preference_rows(24, 5)),
    processing_class=tok,
    peft_config=LoraConfig(r=16, lora_alpha=32, task_type="CAUSAL_LM", target_modules="all-linear"),
)
trainer.train()
