"""LoRA on both towers of Qwen2-VL."""

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoProcessor, BitsAndBytesConfig, Qwen2VLForConditionalGeneration
from trl import SFTConfig, SFTTrainer

name = "Qwen/Qwen2-VL-2B-Instruct"
targets = ["q_proj", "k_proj", "v_proj", "o_proj"] + ["qkv", "fc1", "fc2"]
trainer = SFTTrainer(
    model=Qwen2VLForConditionalGeneration.from_pretrained(
        name, quantization_config=BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.bfloat16)
    ),
    args=SFTConfig("out", gradient_checkpointing=True, max_length=None),
    train_dataset=load_dataset("HuggingFaceH4/llava-instruct-mix-vsft", split="train"),
    processing_class=AutoProcessor.from_pretrained(name),
    peft_config=LoraConfig(r=16, target_modules=targets, task_type="CAUSAL_LM"),
)
trainer.train()
