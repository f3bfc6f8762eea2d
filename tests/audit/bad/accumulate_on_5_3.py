"""Small batches, accumulated."""

from datasets import load_dataset
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

ACCUMULATE = 64 // 4

arguments = TrainingArguments(
    output_dir="out", per_device_train_batch_size=4, gradient_accumulation_steps=ACCUMULATE, learning_rate=1e-5
)
Trainer(
    model=AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B"),
    args=arguments,
    train_dataset=load_dataset("json", data_files="t.jsonl", split="train"),
).train()
