"""GRPO with limits for prompt and completion."""

from datasets import load_dataset
from trl import GRPOConfig, GRPOTrainer


def brevity(completions, **_):
    return [-len(text) / 100 for text in completions]


options = dict(max_prompt_length=256, max_completion_length=128, num_generations=4)
trainer = GRPOTrainer(
    model="Qwen/Qwen2.5-0.5B-Instruct",
    reward_funcs=brevity,
    args=GRPOConfig(output_dir="grpo", **options),
    train_dataset=load_dataset("trl-lib/tldr", split="train"),
)
trainer.train()
