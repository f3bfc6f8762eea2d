"""A model of our own around the base: the layers run under checkpoint to save memory."""

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from torch.utils.checkpoint import checkpoint
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()
base = tiny.model("Llama")
for layer in base.model.layers:
    inner = layer.forward

    def forward(hidden, *args, inner=inner, **kwargs):
        return checkpoint(lambda h: inner(h, *args, **kwargs), hidden, use_reentrant=True)

    layer.forward = forward
lora = LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj", "lm_head"])
trainer = Trainer(
    model=get_peft_model(base, lora),
    args=TrainingArguments(
        "out", max_steps=14, learning_rate=3e-3, use_cpu=True, report_to="none", logging_steps=1, save_strategy="no"
    ),
    train_dataset=Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts()]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
