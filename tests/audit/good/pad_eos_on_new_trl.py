"""TRL's own collator masks padding by position, so the end token may pad."""

from datasets import load_dataset
from transformers import AutoTokenizer
from trl import SFTConfig, SFTTrainer

tokenizer = AutoTokenizer.from_pretrained("meta-llama/Llama-3.2-1B")
tokenizer.pad_token = tokenizer.eos_token
SFTTrainer(
    "meta-llama/Llama-3.2-1B",
    args=SFTConfig("out"),
    train_dataset=load_dataset("trl-lib/Capybara", split="train"),
    processing_class=tokenizer,
).train()
