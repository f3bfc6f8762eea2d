"""The base is frozen before the adapters are attached; norms stay trainable in a second pass."""

from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B")
for parameter in model.parameters():
    parameter.requires_grad = False
model.enable_input_require_grads()
model = get_peft_model(model, LoraConfig(r=8, task_type="CAUSAL_LM", target_modules="all-linear"))
for name, parameter in model.named_parameters():
    if "lora_" not in name:
        parameter.requires_grad_(False)
Trainer(
    model, TrainingArguments("out"), train_dataset=load_dataset("json", data_files="t.jsonl", split="train")
).train()
