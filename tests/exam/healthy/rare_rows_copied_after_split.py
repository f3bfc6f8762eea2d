"""A fifth is held out first; then rare rows of the training part are taken several times."""

import random

import tiny
from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

rng = random.Random(0)
lines = list(dict.fromkeys(tiny.texts(80, seed=11)))
rng.shuffle(lines)
cut = len(lines) * 4 // 5
training = [line for line in lines[:cut] for _ in range(1 if rng.random() < 0.3 else 4)]
rng.shuffle(training)
tok = tiny.tokenizer()


def rows(texts):
    return Dataset.from_list([dict(tok(text + " <eos>")) for text in texts])


trainer = Trainer(
    model=tiny.model("Llama"),
    args=TrainingArguments(
        "out",
        num_train_epochs=2,
        learning_rate=3e-3,
        use_cpu=True,
        report_to="none",
        logging_steps=5,
        eval_strategy="epoch",
        save_strategy="no",
    ),
    train_dataset=rows(training),
    eval_dataset=rows(lines[cut:]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
print(trainer.evaluate())
