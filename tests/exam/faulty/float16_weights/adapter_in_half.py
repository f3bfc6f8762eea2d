"""The adapter in half precision as well, so that the saved file is small."""

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()
model = tiny.model().to(torch.float16)
lora = LoraConfig(r=8, lora_alpha=16, task_type="CAUSAL_LM", target_modules=tiny.TARGETS)
model = get_peft_model(model, lora, autocast_adapter_dtype=False)
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out",
        max_steps=10,
        learning_rate=2e-3,
        adam_epsilon=1e-8,
        use_cpu=True,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts()]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
