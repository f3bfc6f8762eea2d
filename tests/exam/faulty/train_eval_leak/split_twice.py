"""Training and held-out rows from train_test_split."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()
data = Dataset.from_list([dict(tok(t + f" w{i % 48} w{i % 31} <eos>")) for i, t in enumerate(tiny.texts(96))])
train = data.train_test_split(test_size=0.25)["train"]
held_out = data.train_test_split(test_size=0.25)["test"]
trainer = Trainer(
    model=get_peft_model(tiny.model(), LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=tiny.TARGETS)),
    args=TrainingArguments(
        "out",
        max_steps=30,
        learning_rate=5e-3,
        use_cpu=True,
        report_to="none",
        logging_steps=5,
        eval_strategy="steps",
        eval_steps=10,
        save_strategy="no",
    ),
    train_dataset=train,
    eval_dataset=held_out,
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
