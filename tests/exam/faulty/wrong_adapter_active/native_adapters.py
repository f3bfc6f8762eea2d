"""Adapters by Transformers itself: `chat` is kept, `summary` is new."""

from datasets import Dataset
from peft import LoraConfig
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()
model = tiny.model()
model.add_adapter(LoraConfig(r=8, target_modules=["q_proj", "v_proj"]), adapter_name="chat")
model.add_adapter(LoraConfig(r=8, target_modules=["q_proj", "v_proj"]), adapter_name="summary")
model.set_adapter("chat")
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out", max_steps=16, learning_rate=5e-3, use_cpu=True, report_to="none", logging_steps=4, save_strategy="no"
    ),
    train_dataset=Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts()]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
model.set_adapter("summary")
model.save_pretrained("out/summary")
