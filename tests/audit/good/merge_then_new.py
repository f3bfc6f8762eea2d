"""The first adapter becomes part of the base; a new one is trained on top."""

from datasets import load_dataset
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer

base = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B")
base = PeftModel.from_pretrained(base, "first").merge_and_unload()
SFTTrainer(
    base,
    args=SFTConfig("second"),
    train_dataset=load_dataset("trl-lib/Capybara", split="train"),
    peft_config=LoraConfig(r=8, task_type="CAUSAL_LM"),
).train()
