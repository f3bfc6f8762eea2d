"""GRPO: a completion is good if it ends with the end token."""

from datasets import Dataset
from peft import LoraConfig
from trl import GRPOConfig, GRPOTrainer

import tiny

tok = tiny.tokenizer(side="left")


def ends(completions, **kwargs):
    return [1.0 if completion.rstrip().endswith("<eos>") else 0.0 for completion in completions]


trainer = GRPOTrainer(
    model=tiny.model(),
    reward_funcs=ends,
    args=GRPOConfig(
        "out",
        max_steps=6,
        learning_rate=1e-3,
        per_device_train_batch_size=4,
        num_generations=4,
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
    peft_config=LoraConfig(r=8, task_type="CAUSAL_LM", target_modules="all-linear"),
)
trainer.train()
trainer.save_model("out/final")
