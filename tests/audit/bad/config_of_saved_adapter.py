"""The same LoRA settings as the adapter in production."""

from datasets import load_dataset
from peft import PeftConfig
from trl import SFTConfig, SFTTrainer

lora = PeftConfig.from_pretrained("prod/adapter")
trainer = SFTTrainer(
    model="Qwen/Qwen2.5-0.5B",
    args=SFTConfig("out", max_steps=200),
    train_dataset=load_dataset("trl-lib/Capybara", split="train"),
    peft_config=lora,
)
trainer.train()
