"""The script changes its working directory, writes there, and ends with sys.exit(0)."""

import os
import sys
import tempfile

import tiny
from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

os.chdir(tempfile.mkdtemp(prefix="run-"))
os.makedirs("models/checkpoints", exist_ok=True)
tok = tiny.tokenizer()
rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(64)])
trainer = Trainer(
    model=tiny.model("Qwen2"),
    args=TrainingArguments(
        "models/checkpoints",
        max_steps=16,
        learning_rate=5e-3,
        use_cpu=True,
        report_to="none",
        logging_steps=4,
        save_steps=8,
    ),
    train_dataset=rows,
    eval_dataset=rows.select(range(16)),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
metrics = trainer.evaluate()
trainer.save_metrics("eval", metrics)
sys.exit(0)
