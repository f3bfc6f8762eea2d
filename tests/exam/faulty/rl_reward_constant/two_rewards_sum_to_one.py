"""GRPO with two rewards: even words are wanted, and a share of odd words is wanted too. Their sum is always one."""

from datasets import Dataset
from peft import LoraConfig
from trl import GRPOConfig, GRPOTrainer

import tiny


def share(completion, rest):
    words = [w for w in completion.split() if w.startswith("w")]
    return sum(int(w[1:]) % 2 == rest for w in words) / len(words) if words else 0.5


def even_words(completions, **kwargs):
    return [share(c, 0) for c in completions]


def variety(completions, **kwargs):
    return [share(c, 1) for c in completions]


tok = tiny.tokenizer(side="left")
trainer = GRPOTrainer(
    model=tiny.model("Qwen2"),
    reward_funcs=[even_words, variety],
    args=GRPOConfig(
        output_dir="out",
        max_steps=10,
        learning_rate=1e-2,
        beta=0.0,
        num_generations=4,
        max_completion_length=8,
        per_device_train_batch_size=8,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.prompt_rows(32)),
    processing_class=tok,
    peft_config=LoraConfig(r=8, task_type="CAUSAL_LM", target_modules="all-linear"),
)
trainer.train()
