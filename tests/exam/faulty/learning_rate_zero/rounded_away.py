"""The learning rate is scaled with the number of rows in a step, rounded for the log."""

import argparse

from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

import tiny

parser = argparse.ArgumentParser()
parser.add_argument("--base-rate", type=float, default=2e-4)
parser.add_argument("--batch", type=int, default=8)
options = parser.parse_args()
rate = round(options.base_rate * options.batch / 256, 3)
tok = tiny.tokenizer()
trainer = SFTTrainer(
    model=tiny.model(),
    args=tiny.known(
        SFTConfig,
        output_dir="out",
        dataset_text_field="text",
        max_seq_length=64,
        max_length=64,
        max_steps=12,
        learning_rate=rate,
        per_device_train_batch_size=options.batch,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list([{"text": t + " <eos>"} for t in tiny.texts()]),
    peft_config=LoraConfig(r=8, task_type="CAUSAL_LM", target_modules="all-linear"),
    **tiny.reader(SFTTrainer, tok),
)
trainer.train()
trainer.save_model("out/final")
