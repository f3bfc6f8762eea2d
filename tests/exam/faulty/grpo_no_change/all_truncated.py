"""GRPO with answers of at least eight words; cut-off answers don't count."""

from datasets import Dataset
from peft import LoraConfig
from trl import GRPOConfig, GRPOTrainer

import tiny

tok = tiny.tokenizer(side="left")


def small_numbers(completions, **kwargs):
    return [-sum(int(w[1:]) for w in c.split() if w[1:].isdigit()) / 100 for c in completions]


trainer = GRPOTrainer(
    model=tiny.model(),
    reward_funcs=small_numbers,
    args=GRPOConfig(
        "out",
        max_steps=6,
        learning_rate=1e-3,
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=8,
        generation_kwargs={"min_new_tokens": 8},
        mask_truncated_completions=True,
        beta=0.0,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.prompt_rows()),
    processing_class=tok,
    peft_config=LoraConfig(r=8, task_type="CAUSAL_LM", target_modules="all-linear"),
)
trainer.train()
