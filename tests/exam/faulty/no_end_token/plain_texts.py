"""Instruction texts for a plain Trainer; the tokenizer adds nothing of its own."""

from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

PROMPT = "question : {} answer : {}"
tok = tiny.tokenizer()
train = Dataset.from_list([dict(tok(PROMPT.format(q, a))) for q, a in tiny.questions()])
test = Dataset.from_list([dict(tok(PROMPT.format(q, a))) for q, a in tiny.questions(16, 2)])
trainer = Trainer(
    model=tiny.model(),
    args=TrainingArguments(
        "out", max_steps=24, learning_rate=3e-3, use_cpu=True, report_to="none", logging_steps=4, save_strategy="no"
    ),
    train_dataset=train,
    eval_dataset=test,
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
print(trainer.evaluate())
