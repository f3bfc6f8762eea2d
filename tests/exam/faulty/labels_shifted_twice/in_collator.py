"""A GPT-style pretraining loop: x is a block, y the block one further, as in nanoGPT."""

import torch
from transformers import Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()
stream = torch.tensor([t for line in tiny.texts(200) for t in tok(line + " <eos>")["input_ids"]])
BLOCK = 32


class Blocks(torch.utils.data.Dataset):
    def __len__(self):
        return len(stream) // BLOCK - 1

    def __getitem__(self, i):
        x = stream[i * BLOCK : (i + 1) * BLOCK]
        y = stream[i * BLOCK + 1 : (i + 1) * BLOCK + 1]
        return {"input_ids": x, "labels": y}


args = TrainingArguments(
    output_dir="out",
    max_steps=40,
    learning_rate=3e-3,
    use_cpu=True,
    report_to="none",
    logging_steps=10,
    save_strategy="no",
)
Trainer(model=tiny.model("Llama", tie_word_embeddings=True), args=args, train_dataset=Blocks()).train()
