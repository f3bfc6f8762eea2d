"""LoRA first, then ready for 4-bit."""

from datasets import load_dataset
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, Trainer, TrainingArguments

model = AutoModelForCausalLM.from_pretrained(
    "facebook/opt-1.3b", quantization_config=BitsAndBytesConfig(load_in_4bit=True)
)
model = get_peft_model(model, LoraConfig(r=8, task_type="CAUSAL_LM"))
model.gradient_checkpointing_enable()
model = prepare_model_for_kbit_training(model)
Trainer(
    model=model,
    args=TrainingArguments("out", max_steps=100, per_device_train_batch_size=2),
    train_dataset=load_dataset("json", data_files="tokens.jsonl", split="train"),
).train()
