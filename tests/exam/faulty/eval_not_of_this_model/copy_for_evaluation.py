"""Evaluation on a copy of the model, so that training is not disturbed."""

import copy

from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, Trainer, TrainerCallback, TrainingArguments

import tiny


class CopyEval(Trainer):
    def evaluation_loop(self, *args, **kwargs):
        training = self.model
        self.model = self.still
        try:
            return super().evaluation_loop(*args, **kwargs)
        finally:
            self.model = training


tok = tiny.tokenizer()
rows = [dict(tok(t + " <eos>")) for t in tiny.texts(80)]
trainer = CopyEval(
    model=tiny.model("Llama"),
    args=TrainingArguments(
        "out",
        max_steps=24,
        learning_rate=3e-3,
        use_cpu=True,
        report_to="none",
        logging_steps=6,
        eval_strategy="steps",
        eval_steps=6,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(rows[:64]),
    eval_dataset=Dataset.from_list(rows[64:]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.still = copy.deepcopy(trainer.model)
trainer.train()
