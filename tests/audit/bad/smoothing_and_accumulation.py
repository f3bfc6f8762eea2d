"""Label smoothing, with accumulated batches."""

from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainingArguments

settings = {"label_smoothing_factor": 0.1, "gradient_accumulation_steps": 8, "per_device_train_batch_size": 2}
tokenizer = AutoTokenizer.from_pretrained("Qwen/Qwen2.5-0.5B")
trainer = Trainer(
    model=AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B"),
    args=TrainingArguments(output_dir="out", **settings),
    train_dataset=load_dataset("json", data_files="t.jsonl", split="train"),
    data_collator=DataCollatorForSeq2Seq(tokenizer),
)
trainer.train()
