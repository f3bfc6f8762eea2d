"""Half precision to save memory."""

from datasets import Dataset
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
model = AutoModelForCausalLM.from_pretrained(base).half()
rows = [dict(tok(t + " <eos>")) for t in tiny.texts()]
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out", max_steps=10, learning_rate=1e-3, use_cpu=True, report_to="none", logging_steps=1, save_strategy="no"
    ),
    train_dataset=Dataset.from_list(rows),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
trainer.save_model("out/final")
