"""Few rows and many epochs: the model learns them by heart, the loss on other rows rises a little at the end."""

import random

import tiny
from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

tok = tiny.tokenizer()
rng = random.Random(4)


def lines(n):
    # Nothing general to learn beyond which words there are: each line is words at random.
    return Dataset.from_list([dict(tok(" ".join(rng.choices(tiny.WORDS[:12], k=8)) + " <eos>")) for _ in range(n)])


trainer = Trainer(
    model=tiny.model("Llama", hidden_size=64, intermediate_size=128),
    args=TrainingArguments(
        "memorised",
        num_train_epochs=18,
        learning_rate=2e-3,
        per_device_train_batch_size=8,
        use_cpu=True,
        report_to="none",
        logging_steps=10,
        eval_strategy="epoch",
        save_strategy="no",
    ),
    train_dataset=lines(24),
    eval_dataset=lines(24),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
losses = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
print(f"eval {losses[0]:.3f} -> best {min(losses):.3f} -> {losses[-1]:.3f}")
