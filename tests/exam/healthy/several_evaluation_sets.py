"""Two evaluation sets by name; on the one with reversed words the loss rises, because nobody trains on such rows."""

import tiny
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

tok = tiny.tokenizer()


def rows(texts):
    return Dataset.from_list([dict(tok(text + " <eos>")) for text in texts])


model = get_peft_model(tiny.model("Llama"), LoraConfig(task_type="CAUSAL_LM", target_modules=tiny.TARGETS))
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "sets",
        num_train_epochs=3,
        learning_rate=1e-2,
        use_cpu=True,
        report_to="none",
        logging_steps=4,
        eval_strategy="epoch",
        save_strategy="no",
    ),
    train_dataset=rows(tiny.texts(64)),
    eval_dataset={
        "like_training": rows(tiny.texts(16, seed=1)),
        "reversed": rows([" ".join(reversed(text.split())) for text in tiny.texts(16, seed=2)]),
    },
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
