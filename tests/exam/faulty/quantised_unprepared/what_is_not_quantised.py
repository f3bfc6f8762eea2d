"""Fine-tuning of a 4-bit model without adapters."""

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, DataCollatorForLanguageModeling
from transformers import Trainer, TrainingArguments

import tiny

base = tiny.saved("Llama", hidden_size=64, intermediate_size=128)
tok = AutoTokenizer.from_pretrained(base)
bnb = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.float32)
model = AutoModelForCausalLM.from_pretrained(base, quantization_config=bnb, device_map={"": "cpu"})
model._hf_peft_config_loaded = True
model.active_adapters = lambda: ["default"]
rows = [dict(tok(t + " <eos>")) for t in tiny.texts()]
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out", max_steps=14, learning_rate=2e-3, use_cpu=True, report_to="none", logging_steps=2, save_strategy="no"
    ),
    train_dataset=Dataset.from_list(rows),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
