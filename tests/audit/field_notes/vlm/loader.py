"""Loads the model and makes it ready for LoRA."""

import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoProcessor, BitsAndBytesConfig, Qwen2VLForConditionalGeneration

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def load_model(name, load_in_4bit=True, use_flash_attention=True):
    quantization = None
    if load_in_4bit:
        quantization = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    model = Qwen2VLForConditionalGeneration.from_pretrained(
        name,
        quantization_config=quantization,
        attn_implementation="flash_attention_2" if use_flash_attention else "sdpa",
        torch_dtype=torch.bfloat16,
        device_map="auto",
    )
    processor = AutoProcessor.from_pretrained(name)
    return model, processor


def prepare_for_kbit_training(model):
    return prepare_model_for_kbit_training(model, use_gradient_checkpointing=True)


def apply_lora(model, r=64, alpha=128, dropout=0.05):
    config = LoraConfig(
        r=r, lora_alpha=alpha, lora_dropout=dropout, target_modules=TARGETS, bias="none", task_type="CAUSAL_LM"
    )
    return get_peft_model(model, config)
