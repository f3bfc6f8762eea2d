"""Full fine-tuning or QLoRA, by a flag."""

import argparse

import torch
from datasets import load_dataset
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer

parser = argparse.ArgumentParser()
parser.add_argument("--model", default="Qwen/Qwen2.5-7B")
parser.add_argument("--qlora", action="store_true")
args = parser.parse_args()

quant = BitsAndBytesConfig(load_in_4bit=True) if args.qlora else None
model = AutoModelForCausalLM.from_pretrained(args.model, quantization_config=quant, torch_dtype=torch.bfloat16)
if args.qlora:
    model = prepare_model_for_kbit_training(model)
    model = get_peft_model(model, LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM"))

SFTTrainer(
    model=model,
    args=SFTConfig(output_dir="out", learning_rate=1e-4, gradient_checkpointing=True),
    train_dataset=load_dataset("json", data_files="train.jsonl", split="train"),
    processing_class=AutoTokenizer.from_pretrained(args.model),
).train()
