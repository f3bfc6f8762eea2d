"""The best weights are kept in memory and put back at the end."""

from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, Trainer, TrainerCallback, TrainingArguments

import tiny


class Best(TrainerCallback):
    def __init__(self):
        self.loss, self.weights = float("inf"), None

    def on_evaluate(self, args, state, control, model=None, metrics=None, **kwargs):
        if metrics["eval_loss"] < self.loss:
            self.loss, self.weights = metrics["eval_loss"], model.state_dict()

    def on_train_end(self, args, state, control, model=None, **kwargs):
        model.load_state_dict(self.weights)
        print("best weights restored, eval loss", self.loss)


tok = tiny.tokenizer()
trainer = Trainer(
    model=tiny.model("Llama", hidden_size=64),
    args=TrainingArguments(
        "out",
        max_steps=50,
        learning_rate=2e-2,
        use_cpu=True,
        report_to="none",
        logging_steps=5,
        eval_strategy="steps",
        eval_steps=5,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts(16)]),
    eval_dataset=Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts(16, 9)]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
    callbacks=[Best()],
)
trainer.train()
print("eval loss now", trainer.evaluate()["eval_loss"])
