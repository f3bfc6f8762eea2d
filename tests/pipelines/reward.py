"""GRPO on a tiny model, as users write it: python reward.py MODEL {same|letters}."""

import sys

from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

place, kind = sys.argv[1:]
rows = [{"prompt": " ".join(f"w{(a + i) % 20}" for i in range(4))} for a in range(40)]
tokenizer = AutoTokenizer.from_pretrained(place, padding_side="left")


def reward(completions: list[str], **given: object) -> list[float]:
    """The number of ones in a completion; or of a word that none has."""
    return [float(text.count("1" if kind == "letters" else "sun")) for text in completions]


trainer = GRPOTrainer(
    model=AutoModelForCausalLM.from_pretrained(place),
    reward_funcs=reward,
    args=GRPOConfig(
        output_dir="out",
        max_steps=10,
        learning_rate=1e-3,
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=16,
        beta=0.0,
        bf16=False,
        logging_steps=1,
    ),
    train_dataset=Dataset.from_list(rows),
    processing_class=tokenizer,
    peft_config=LoraConfig(task_type="CAUSAL_LM", r=8, target_modules=["q_proj", "v_proj"]),
)
trainer.train()
