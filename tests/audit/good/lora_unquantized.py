"""LoRA without quantization, wrapped by hand."""

import torch
from datasets import load_dataset
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer

model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B", torch_dtype=torch.float32)
model = get_peft_model(model, LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM"))
SFTTrainer(
    model=model,
    args=SFTConfig("out", gradient_checkpointing=False),
    train_dataset=load_dataset("trl-lib/Capybara", split="train"),
).train()
