"""GRPO with careful sampling (top_k from the generation settings of the product)."""

import yaml
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

import tiny

SAMPLING = yaml.safe_load("{temperature: 0.7, top_p: 0.9, top_k: 1}")
tok = tiny.tokenizer(side="left")
trainer = GRPOTrainer(
    model=tiny.model("Llama"),
    reward_funcs=lambda completions, **kwargs: [float(c.count("w1")) for c in completions],
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
        **SAMPLING,
    ),
    train_dataset=Dataset.from_list(tiny.prompt_rows()),
    processing_class=tok,
)
trainer.train()
