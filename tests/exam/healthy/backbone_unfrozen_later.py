"""A warm-up of the head alone, then a callback unfreezes the backbone; the optimizer has had all of it from the start."""

import tiny
import torch
from datasets import Dataset
from transformers import DataCollatorWithPadding, Trainer, TrainerCallback, TrainingArguments

tok = tiny.tokenizer()


def encode(rows):
    return Dataset.from_list([{**tok(r["text"]), "label": r["label"]} for r in rows])


class Thaw(TrainerCallback):
    def __init__(self, at):
        self.at = at

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        model.model.requires_grad_(False)

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if state.global_step == self.at:
            model.model.requires_grad_(True)
            print(f"backbone trains from step {self.at} on")


class AllParameters(Trainer):
    """The optimizer takes what is frozen at the start as well."""

    def create_optimizer(self, model=None):
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=self.args.learning_rate)
        return self.optimizer


trainer = AllParameters(
    model=tiny.model("Llama", "ForSequenceClassification", num_labels=2),
    args=TrainingArguments(
        "thaw",
        num_train_epochs=4,
        learning_rate=5e-3,
        use_cpu=True,
        report_to="none",
        logging_steps=4,
        eval_strategy="epoch",
        save_strategy="no",
    ),
    train_dataset=encode(tiny.labelled_rows(64)),
    eval_dataset=encode(tiny.labelled_rows(16, seed=4)),
    data_collator=DataCollatorWithPadding(tok),
    callbacks=[Thaw(at=10)],
)
trainer.train()
