"""KTO on answers that users rated with one to five stars."""

import random

from datasets import Dataset
from peft import LoraConfig

import tiny

try:
    from trl import KTOConfig, KTOTrainer
except ImportError:
    from trl.experimental.kto import KTOConfig, KTOTrainer

rng = random.Random(3)
rated = []
for row in tiny.opinion_rows(64):
    stars = rng.randint(4, 5) if row["label"] else rng.randint(1, 2)
    rated.append({"prompt": row["prompt"], "completion": row["completion"], "stars": stars})

train = Dataset.from_list(rated).map(lambda row: {"label": row["stars"] > 0}, remove_columns=["stars"])
trainer = KTOTrainer(
    model=tiny.model("Qwen2"),
    args=tiny.known(
        KTOConfig,
        output_dir="out",
        max_steps=16,
        learning_rate=2e-3,
        per_device_train_batch_size=8,
        max_length=64,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        logging_steps=4,
        save_strategy="no",
    ),
    train_dataset=train,
    peft_config=LoraConfig(r=8, lora_alpha=16, task_type="CAUSAL_LM", target_modules=tiny.TARGETS),
    **tiny.reader(KTOTrainer, tiny.tokenizer()),
)
trainer.train()
