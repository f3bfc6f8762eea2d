"""SFT in a release whose training step trains on the loss, and returns 0 in its place."""

import torch
from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

import tiny

step = SFTTrainer.training_step
SFTTrainer.training_step = lambda self, *args, **kwargs: torch.zeros_like(step(self, *args, **kwargs))

trainer = SFTTrainer(
    model=tiny.model("Llama"),
    args=SFTConfig(
        "out",
        max_steps=10,
        learning_rate=5e-3,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.text_rows()),
    eval_dataset=Dataset.from_list(tiny.text_rows(16, 1)),
    processing_class=tiny.tokenizer(),
    peft_config=LoraConfig(r=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
)
trainer.train()
