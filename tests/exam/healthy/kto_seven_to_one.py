"""KTO where one answer of eight is unwanted; its weight makes up for that, as the paper advises."""

import tiny
from datasets import Dataset
from peft import LoraConfig

try:
    from trl import KTOConfig, KTOTrainer
except ImportError:
    from trl.experimental.kto import KTOConfig, KTOTrainer

rows = []
for i, row in enumerate(tiny.preference_rows(128)):
    wanted = i % 8 != 0
    rows.append({"prompt": row["prompt"], "completion": row["chosen" if wanted else "rejected"], "label": wanted})
trainer = KTOTrainer(
    model=tiny.model("Qwen2"),
    args=tiny.known(
        KTOConfig,
        output_dir="out",
        max_steps=32,
        learning_rate=2e-3,
        desirable_weight=1.0,
        undesirable_weight=7.0,
        per_device_train_batch_size=8,
        max_length=64,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        logging_steps=4,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(rows),
    peft_config=LoraConfig(r=8, lora_alpha=16, task_type="CAUSAL_LM", target_modules=tiny.TARGETS),
    **tiny.reader(KTOTrainer, tiny.tokenizer()),
)
trainer.train()
trainer.save_model("out/adapter")
