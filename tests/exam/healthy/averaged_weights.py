"""A callback keeps a moving average of the weights and puts it in the model at the end of training."""

import tiny
import torch
from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, Trainer, TrainerCallback, TrainingArguments


class Average(TrainerCallback):
    def __init__(self, decay=0.8):
        self.decay, self.shadow = decay, {}

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.shadow = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def on_step_end(self, args, state, control, model=None, **kwargs):
        for name, parameter in model.named_parameters():
            self.shadow[name].lerp_(parameter, 1 - self.decay)

    @torch.no_grad()
    def on_train_end(self, args, state, control, model=None, **kwargs):
        for name, parameter in model.named_parameters():
            parameter.copy_(self.shadow[name])


tok = tiny.tokenizer()
rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(80)])
trainer = Trainer(
    model=tiny.model("Qwen2"),
    args=TrainingArguments(
        "average",
        max_steps=30,
        learning_rate=5e-3,
        use_cpu=True,
        report_to="none",
        logging_steps=5,
        save_strategy="no",
    ),
    train_dataset=rows.select(range(64)),
    eval_dataset=rows.select(range(64, 80)),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
    callbacks=[Average()],
)
trainer.train()
print(trainer.evaluate())
