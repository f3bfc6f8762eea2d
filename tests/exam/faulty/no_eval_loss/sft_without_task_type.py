"""SFT with an evaluation set."""

from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

import tiny

tok = tiny.tokenizer()
rows = Dataset.from_list(tiny.text_rows(80))
trainer = SFTTrainer(
    tiny.model(),
    args=SFTConfig(
        output_dir="out",
        max_steps=12,
        learning_rate=5e-3,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=3,
        eval_strategy="steps",
        eval_steps=6,
        save_strategy="no",
    ),
    train_dataset=rows.select(range(64)),
    eval_dataset=rows.select(range(64, 80)),
    processing_class=tok,
    peft_config=LoraConfig(r=4, lora_alpha=16, target_modules="all-linear"),
)
trainer.train()
print("EVAL", trainer.evaluate())
