"""Adafactor by its name in the arguments, with a constant rate and no clipping of the trainer's own."""

import tiny
from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

tok = tiny.tokenizer()
rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(64)])
trainer = Trainer(
    model=tiny.model("Mistral"),
    args=TrainingArguments(
        "adafactor",
        max_steps=24,
        optim="adafactor",
        learning_rate=5e-3,
        lr_scheduler_type="constant",
        max_grad_norm=0,
        use_cpu=True,
        report_to="none",
        logging_steps=4,
        save_strategy="no",
    ),
    train_dataset=rows,
    eval_dataset=rows.select(range(16)),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
print(trainer.evaluate())
