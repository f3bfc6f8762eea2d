"""DPO; the adapters are merged for a look at the loss, and stay merged."""

from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

name = "Qwen/Qwen2.5-0.5B-Instruct"
model = get_peft_model(AutoModelForCausalLM.from_pretrained(name), LoraConfig(r=8, task_type="CAUSAL_LM"))
model.merge_adapter()
trainer = DPOTrainer(
    model=model,
    args=DPOConfig("dpo", beta=0.1),
    train_dataset=load_dataset("trl-lib/ultrafeedback_binarized", split="train"),
    processing_class=AutoTokenizer.from_pretrained(name),
)
trainer.train()
