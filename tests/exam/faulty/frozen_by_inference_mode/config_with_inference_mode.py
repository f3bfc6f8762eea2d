"""An adapter config that was copied from a published adapter."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

PUBLISHED = {
    "base_model_name_or_path": None,
    "bias": "none",
    "inference_mode": True,
    "lora_alpha": 32,
    "lora_dropout": 0.0,
    "r": 8,
    "target_modules": ["q_proj", "v_proj"],
    "task_type": "CAUSAL_LM",
}
tok = tiny.tokenizer()
model = tiny.model()
model.gradient_checkpointing_enable()
model = get_peft_model(model, LoraConfig(**PUBLISHED))
rows = [dict(tok(text + " <eos>")) for text in tiny.texts()]
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out", max_steps=10, learning_rate=5e-3, use_cpu=True, report_to="none", logging_steps=1, save_strategy="no"
    ),
    train_dataset=Dataset.from_list(rows),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
trainer.save_model("out/final")
