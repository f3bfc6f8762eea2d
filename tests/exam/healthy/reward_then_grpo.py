"""A reward model is trained first and then used as GRPO's reward function; the reward model stays as it is."""

import tiny
import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer, RewardConfig, RewardTrainer

tok = tiny.tokenizer(side="left")
shared = {
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "report_to": "none",
    "logging_steps": 3,
    "save_strategy": "no",
    "per_device_train_batch_size": 8,
}
judge = tiny.model("Llama", "ForSequenceClassification", num_labels=1)
RewardTrainer(
    model=judge,
    args=RewardConfig(output_dir="judge", max_steps=15, learning_rate=2e-3, max_length=32, **shared),
    train_dataset=Dataset.from_list(tiny.preference_rows(64)),
    eval_dataset=Dataset.from_list(tiny.preference_rows(16, seed=1)),
    processing_class=tok,
).train()
judge.eval().requires_grad_(False)


@torch.no_grad()
def learned_reward(prompts, completions, **kwargs):
    texts = [p + c for p, c in zip(prompts, completions)]
    return judge(**tok(texts, return_tensors="pt", padding=True)).logits[:, 0].tolist()


policy = GRPOTrainer(
    model=tiny.model("Llama", seed=1),
    reward_funcs=learned_reward,
    args=GRPOConfig(
        output_dir="policy",
        max_steps=12,
        learning_rate=1e-2,
        beta=0.0,
        num_generations=4,
        max_completion_length=8,
        **shared,
    ),
    train_dataset=Dataset.from_list(tiny.prompt_rows(32)),
    processing_class=tok,
)
policy.train()
