"""A padding token of its own: nothing of the text is masked, and its row need not be trained."""

from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)

tokenizer = AutoTokenizer.from_pretrained("gpt2")
tokenizer.add_special_tokens({"pad_token": "<pad>"})
model = AutoModelForCausalLM.from_pretrained("gpt2")
model.resize_token_embeddings(len(tokenizer))
model = get_peft_model(model, LoraConfig(r=8, task_type="CAUSAL_LM"))
Trainer(
    model=model,
    args=TrainingArguments("out"),
    train_dataset=load_dataset("json", data_files="t.jsonl", split="train"),
    data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
    processing_class=tokenizer,
).train()
