"""The user's own package is named harness, as another package on the index is; the script imports it by that name."""

from harness.data import collator, rows
from harness.model import build
from transformers import Trainer, TrainingArguments


def run():
    trainer = Trainer(
        model=build(),
        args=TrainingArguments(
            "own-package",
            max_steps=20,
            learning_rate=1e-2,
            use_cpu=True,
            report_to="none",
            logging_steps=5,
            save_strategy="no",
        ),
        train_dataset=rows(64, 0),
        eval_dataset=rows(16, 1),
        data_collator=collator(),
    )
    trainer.train()
    print(trainer.evaluate())


if __name__ == "__main__":
    run()
