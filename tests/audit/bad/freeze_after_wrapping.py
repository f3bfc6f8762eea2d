"""Only the adapters shall train, so the base is frozen."""

from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments


def freeze(model):
    for name, parameter in model.named_parameters():
        parameter.requires_grad = False
    return model


model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B")
model = get_peft_model(model, LoraConfig(r=8, task_type="CAUSAL_LM", target_modules="all-linear"))
model = freeze(model)
trainer = Trainer(
    model, TrainingArguments("out"), train_dataset=load_dataset("json", data_files="t.jsonl", split="train")
)
trainer.train()
