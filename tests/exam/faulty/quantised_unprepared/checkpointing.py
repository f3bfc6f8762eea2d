"""QLoRA with gradient checkpointing; the head is trained as well."""

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, DataCollatorForLanguageModeling
from transformers import Trainer, TrainingArguments

import tiny

base = tiny.saved("Llama", hidden_size=64, intermediate_size=128)
tok = AutoTokenizer.from_pretrained(base)
bnb = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
model = AutoModelForCausalLM.from_pretrained(base, quantization_config=bnb, device_map={"": "cpu"})
lora = LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=tiny.TARGETS, modules_to_save=["lm_head"])
trainer = Trainer(
    model=get_peft_model(model, lora),
    args=TrainingArguments(
        "out",
        max_steps=12,
        learning_rate=2e-3,
        gradient_checkpointing=True,
        gradient_checkpointing_kwargs={"use_reentrant": True},
        use_cpu=True,
        report_to="none",
        logging_steps=2,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts()]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
