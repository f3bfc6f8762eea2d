"""From the blog post of 2023."""

from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainingArguments
from trl import SFTTrainer

name = "EleutherAI/pythia-410m"
trainer = SFTTrainer(
    model=AutoModelForCausalLM.from_pretrained(name),
    tokenizer=AutoTokenizer.from_pretrained(name),
    train_dataset=load_dataset("imdb", split="train"),
    dataset_text_field="text",
    max_seq_length=512,
    packing=True,
    peft_config=LoraConfig(r=16, task_type="CAUSAL_LM"),
    args=TrainingArguments(output_dir="out", evaluation_strategy="no", warmup_ratio=0.03),
)
trainer.train()
