"""A stream of lines, read by two workers."""

import torch
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()


class Lines(torch.utils.data.IterableDataset):
    def __init__(self, lines):
        self.lines = lines

    def __iter__(self):
        for line in self.lines:
            yield dict(tok(line + " <eos>"))


trainer = Trainer(
    model=get_peft_model(tiny.model("Llama"), LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=tiny.TARGETS)),
    args=TrainingArguments(
        "out",
        max_steps=16,
        learning_rate=5e-3,
        dataloader_num_workers=2,
        use_cpu=True,
        report_to="none",
        logging_steps=4,
        save_strategy="no",
    ),
    train_dataset=Lines(tiny.texts(128)),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
