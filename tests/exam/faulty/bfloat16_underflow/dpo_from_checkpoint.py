"""DPO from a checkpoint in bfloat16, with DPO's small learning rate."""

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

import tiny

base = tiny.saved("Llama", hidden_size=64)
AutoModelForCausalLM.from_pretrained(base).to(torch.bfloat16).save_pretrained(base)
tok = AutoTokenizer.from_pretrained(base)
model = AutoModelForCausalLM.from_pretrained(base, torch_dtype="auto")
trainer = DPOTrainer(
    model=model,
    ref_model=AutoModelForCausalLM.from_pretrained(base, torch_dtype="auto"),
    args=DPOConfig(
        "out",
        max_steps=16,
        learning_rate=5e-7,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=2,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.preference_rows()),
    processing_class=tok,
)
trainer.train()
