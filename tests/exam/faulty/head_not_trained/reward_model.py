"""A reward model with LoRA."""

from datasets import Dataset
from peft import LoraConfig
from trl import RewardConfig, RewardTrainer

import tiny

tok = tiny.tokenizer()
rows = Dataset.from_list(tiny.preference_rows(80))
trainer = RewardTrainer(
    model=tiny.model(head="ForSequenceClassification", num_labels=1),
    args=RewardConfig(
        "out",
        max_length=64,
        max_steps=20,
        learning_rate=5e-3,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=5,
        save_strategy="no",
    ),
    train_dataset=rows.select(range(64)),
    eval_dataset=rows.select(range(64, 80)),
    processing_class=tok,
    peft_config=LoraConfig(
        r=8, task_type="FEATURE_EXTRACTION", target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]
    ),
)
trainer.train()
trainer.save_model("out/final")
