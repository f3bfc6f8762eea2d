"""The adapter is written, then the config is patched in place for the model card."""

import json
from pathlib import Path

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()
model = get_peft_model(
    tiny.model("Llama"), LoraConfig(r=16, lora_alpha=64, task_type="CAUSAL_LM", target_modules=tiny.TARGETS)
)
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out", max_steps=16, learning_rate=3e-3, use_cpu=True, report_to="none", logging_steps=4, save_strategy="no"
    ),
    train_dataset=Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts()]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
trainer.save_model("out/final")
path = Path("out/final/adapter_config.json")
card = {"base_model_name_or_path": "our/base", "lora_alpha": 16, "lora_dropout": 0.05}
path.write_text(json.dumps({**json.loads(path.read_text()), **card}, indent=2))
