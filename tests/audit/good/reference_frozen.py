"""DPO with a frozen reference model."""

from datasets import load_dataset
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

NAME = "Qwen/Qwen2.5-0.5B-Instruct"
policy = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(NAME), "sft", is_trainable=True)
reference = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(NAME), "sft")
DPOTrainer(
    model=policy,
    ref_model=reference,
    args=DPOConfig("dpo"),
    train_dataset=load_dataset("trl-lib/ultrafeedback_binarized", split="train"),
    processing_class=AutoTokenizer.from_pretrained(NAME),
).train()
