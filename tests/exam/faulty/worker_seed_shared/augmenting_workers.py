"""Word dropout as augmentation, two loader workers."""

import numpy as np
import torch
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()


class Augmented(torch.utils.data.IterableDataset):
    """Endless random lines."""

    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)

    def __iter__(self):
        while True:
            start, length = self.rng.integers(48), self.rng.integers(6, 12)
            line = " ".join(tiny.WORDS[(start + k) % 48] for k in range(length) if self.rng.random() > 0.1)
            yield dict(tok(line + " <eos>"))


trainer = Trainer(
    model=tiny.model(),
    args=TrainingArguments(
        "out",
        max_steps=20,
        learning_rate=2e-3,
        dataloader_num_workers=2,
        use_cpu=True,
        report_to="none",
        logging_steps=4,
        save_strategy="no",
    ),
    train_dataset=Augmented(),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
