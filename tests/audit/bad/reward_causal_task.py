"""A reward model with LoRA."""

from datasets import load_dataset
from peft import LoraConfig, TaskType
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from trl import RewardConfig, RewardTrainer

name = "Qwen/Qwen2.5-0.5B-Instruct"
trainer = RewardTrainer(
    model=AutoModelForSequenceClassification.from_pretrained(name, num_labels=1),
    args=RewardConfig(output_dir="rm"),
    processing_class=AutoTokenizer.from_pretrained(name),
    train_dataset=load_dataset("trl-lib/ultrafeedback_binarized", split="train"),
    peft_config=LoraConfig(r=32, lora_alpha=16, task_type=TaskType.CAUSAL_LM),
)
trainer.train()
