"""A data set over a memory-mapped array of tokens; every row is a window."""

import numpy as np
import torch
from transformers import Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()
tokens = np.array([t for line in tiny.texts(200) for t in tok(line + " <eos>")["input_ids"]], dtype=np.uint16)
tokens.tofile("tokens.bin")


class Windows(torch.utils.data.Dataset):
    def __init__(self, path, width):
        self.data, self.width = np.memmap(path, dtype=np.uint16, mode="r"), width
        self.at = 0

    def __len__(self):
        return len(self.data) // self.width

    def __getitem__(self, i):
        window = self.data[self.at : self.at + self.width].astype(np.int64)
        if self.at + self.width > len(self.data):
            self.at = 0
        return {"input_ids": torch.from_numpy(window), "labels": torch.from_numpy(window.copy())}


Trainer(
    model=tiny.model("Llama"),
    args=TrainingArguments(
        "out", max_steps=24, learning_rate=2e-3, use_cpu=True, report_to="none", logging_steps=4, save_strategy="no"
    ),
    train_dataset=Windows("tokens.bin", 32),
).train()
