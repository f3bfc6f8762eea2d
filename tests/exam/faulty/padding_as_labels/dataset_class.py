"""A torch data set that tokenizes in __getitem__; the whole model is trained."""

import torch
from transformers import Trainer, TrainingArguments

import tiny


class Lines(torch.utils.data.Dataset):
    def __init__(self, tok, lines, length=64):
        self.tok, self.lines, self.length = tok, lines, length

    def __len__(self):
        return len(self.lines)

    def __getitem__(self, i):
        encoded = self.tok(
            self.lines[i] + " <eos>", truncation=True, max_length=self.length, padding="max_length", return_tensors="pt"
        )
        ids = encoded["input_ids"].squeeze(0)
        return {"input_ids": ids, "attention_mask": encoded["attention_mask"].squeeze(0), "labels": ids.clone()}


tok = tiny.tokenizer()
trainer = Trainer(
    model=tiny.model("Llama", hidden_size=64),
    args=TrainingArguments(
        output_dir="out",
        num_train_epochs=2,
        per_device_train_batch_size=8,
        learning_rate=2e-3,
        logging_steps=4,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
    ),
    train_dataset=Lines(tok, tiny.texts(80)),
    eval_dataset=Lines(tok, tiny.texts(16, 5)),
)
trainer.train()
print(trainer.evaluate())
