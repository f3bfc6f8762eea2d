"""Rows are streamed from a generator."""

from datasets import IterableDataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

import tiny


def lines():
    return iter(tiny.text_rows())


def stream():
    while True:
        yield next(lines())


tok = tiny.tokenizer()
trainer = SFTTrainer(
    model=tiny.model(),
    args=SFTConfig(
        "out",
        max_steps=16,
        learning_rate=5e-3,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=4,
        save_strategy="no",
    ),
    train_dataset=IterableDataset.from_generator(stream),
    processing_class=tok,
    peft_config=LoraConfig(r=8, task_type="CAUSAL_LM", target_modules="all-linear"),
)
trainer.train()
