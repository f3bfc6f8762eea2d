"""Our own optimizer (AdamW with other betas), handed over to the Trainer."""

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments, get_constant_schedule

import tiny

tok = tiny.tokenizer()
model = tiny.model()
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, betas=(0.9, 0.95), weight_decay=0.0)
scheduler = get_constant_schedule(optimizer)
model = get_peft_model(model, LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]))
rows = [dict(tok(t + " <eos>")) for t in tiny.texts(80)]
trainer = Trainer(
    model=model,
    args=TrainingArguments("out", max_steps=12, use_cpu=True, report_to="none", logging_steps=1, save_strategy="no"),
    train_dataset=Dataset.from_list(rows[:64]),
    eval_dataset=Dataset.from_list(rows[64:]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
    optimizers=(optimizer, scheduler),
)
trainer.train()
print(trainer.evaluate())
