"""Warm-up and linear decay in a lambda."""

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

STEPS, WARM = 20, 2
tok = tiny.tokenizer()
model = get_peft_model(tiny.model("Llama"), LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=tiny.TARGETS))
optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=5e-3)
scheduler = torch.optim.lr_scheduler.LambdaLR(
    optimizer, lambda step: step // WARM if step < WARM else max(0, (STEPS - step) // (STEPS - WARM)) * (step > WARM)
)
trainer = Trainer(
    model=model,
    args=TrainingArguments("out", max_steps=STEPS, use_cpu=True, report_to="none", logging_steps=1, save_strategy="no"),
    train_dataset=Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts()]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
    optimizers=(optimizer, scheduler),
)
trainer.train()
