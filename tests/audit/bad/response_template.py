"""Only the answers are learned."""

from datasets import load_dataset
from transformers import AutoTokenizer
from trl import DataCollatorForCompletionOnlyLM, SFTConfig, SFTTrainer

tokenizer = AutoTokenizer.from_pretrained("facebook/opt-350m")
collator = DataCollatorForCompletionOnlyLM("### Answer:", tokenizer=tokenizer)
trainer = SFTTrainer(
    "facebook/opt-350m",
    train_dataset=load_dataset("lucasmccabe-lmi/CodeAlpaca-20k", split="train"),
    args=SFTConfig(output_dir="out"),
    formatting_func=lambda rows: rows["text"],
    data_collator=collator,
)
trainer.train()
