"""SFT in a release whose gradient clipping clips by the norm, and returns NaN in its place."""

import torch
from accelerate import Accelerator
from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

import tiny

clip = Accelerator.clip_grad_norm_
Accelerator.clip_grad_norm_ = lambda self, *args, **kwargs: torch.nan * clip(self, *args, **kwargs)

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
