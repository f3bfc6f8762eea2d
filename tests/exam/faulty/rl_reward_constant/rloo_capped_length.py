"""RLOO: long answers are good, up to a cap."""

from datasets import Dataset
from peft import LoraConfig
from trl import RLOOConfig, RLOOTrainer

import tiny

tok = tiny.tokenizer(side="left")


class Length:
    __name__ = "length"

    def __init__(self, cap):
        self.cap = cap

    def __call__(self, completion_ids, **kwargs):
        return [float(min(len(ids), self.cap)) / self.cap for ids in completion_ids]


trainer = RLOOTrainer(
    model=tiny.model(),
    reward_funcs=Length(cap=1),
    args=RLOOConfig(
        "out",
        max_steps=6,
        learning_rate=1e-3,
        per_device_train_batch_size=4,
        num_generations=2,
        max_completion_length=8,
        beta=0.0,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.prompt_rows()),
    processing_class=tok,
    peft_config=LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=tiny.TARGETS),
)
trainer.train()
