"""GRPO with a rare reward: most groups get nothing, some tell, and every batch is used for two updates."""

import tiny
from datasets import Dataset
from peft import LoraConfig
from trl import GRPOConfig, GRPOTrainer


def names_w7_or_its_neighbours(completions, **kwargs):
    wanted = {f"w{i}" for i in range(6, 9)}
    return [1.0 if wanted & set(c.split()) else 0.0 for c in completions]


tok = tiny.tokenizer(side="left")
trainer = GRPOTrainer(
    model=tiny.model("Llama"),
    reward_funcs=names_w7_or_its_neighbours,
    args=GRPOConfig(
        output_dir="out",
        max_steps=16,
        learning_rate=1e-2,
        beta=0.02,
        num_iterations=2,
        num_generations=4,
        max_completion_length=6,
        per_device_train_batch_size=8,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.prompt_rows(32)),
    processing_class=tok,
    peft_config=LoraConfig(r=8, lora_alpha=16, task_type="CAUSAL_LM", target_modules="all-linear"),
)
trainer.train()
