"""The adapter is added to the weights by hand, as PEFT shall not be needed for serving."""

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)

import tiny

base = tiny.saved("Llama")
tok = AutoTokenizer.from_pretrained(base)
model = get_peft_model(
    AutoModelForCausalLM.from_pretrained(base),
    LoraConfig(r=8, lora_alpha=64, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj", "o_proj"]),
)
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out", max_steps=20, learning_rate=5e-3, use_cpu=True, report_to="none", logging_steps=4, save_strategy="no"
    ),
    train_dataset=Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts()]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
merged = AutoModelForCausalLM.from_pretrained(base)
weights = dict(merged.named_parameters())
with torch.no_grad():
    for name, module in model.base_model.model.named_modules():
        if hasattr(module, "lora_A"):
            delta = module.lora_B["default"].weight @ module.lora_A["default"].weight
            weights[f"{name}.weight"] += delta
merged.save_pretrained("out/merged")
tok.save_pretrained("out/merged")
