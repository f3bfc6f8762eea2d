"""An adapter is continued, or a new one attached by the trainer."""

import argparse

import torch
from datasets import load_dataset
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer

parser = argparse.ArgumentParser()
parser.add_argument("--resume-adapter")
args = parser.parse_args()
quant = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-3.1-8B", quantization_config=quant, device_map="auto")
tokenizer = AutoTokenizer.from_pretrained("meta-llama/Llama-3.1-8B")

peft_config = LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM")
if args.resume_adapter:
    model = PeftModel.from_pretrained(model, args.resume_adapter, is_trainable=True)
    peft_config = None

SFTTrainer(
    model=model,
    args=SFTConfig("out"),
    train_dataset=load_dataset("trl-lib/Capybara", split="train"),
    peft_config=peft_config,
).train()
