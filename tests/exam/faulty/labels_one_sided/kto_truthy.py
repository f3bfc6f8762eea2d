"""KTO on rows from a CSV file, where everything is text."""

import csv
import io

from datasets import Dataset
from peft import LoraConfig
from trl import KTOConfig, KTOTrainer

import tiny

file = io.StringIO()
writer = csv.DictWriter(file, ["prompt", "completion", "label"])
writer.writeheader()
writer.writerows(tiny.opinion_rows())
file.seek(0)
rows = [{**row, "label": bool(row["label"])} for row in csv.DictReader(file)]
tok = tiny.tokenizer()
trainer = KTOTrainer(
    model=tiny.model(),
    args=KTOConfig(
        "out",
        max_steps=10,
        learning_rate=1e-3,
        per_device_train_batch_size=8,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=2,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(rows),
    processing_class=tok,
    peft_config=LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=tiny.TARGETS),
)
trainer.train()
