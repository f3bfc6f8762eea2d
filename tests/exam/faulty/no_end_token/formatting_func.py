"""SFT with a formatting function, TRL 0.15: does the trainer end the rows, or do we?"""

from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

import tiny

tok = tiny.tokenizer()


def formatting(rows):
    return [f"question : {p} answer : {c}" for p, c in zip(rows["prompt"], rows["completion"])]


trainer = SFTTrainer(
    model=tiny.model(),
    args=tiny.known(
        SFTConfig,
        output_dir="out",
        max_seq_length=64,
        max_steps=16,
        learning_rate=1e-2,
        use_cpu=True,
        report_to="none",
        logging_steps=4,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.completion_rows()),
    formatting_func=formatting,
    peft_config=LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=tiny.TARGETS),
    **tiny.reader(SFTTrainer, tok),
)
trainer.train()
