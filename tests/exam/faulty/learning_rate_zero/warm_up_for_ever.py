"""Warm-up steps copied from the pretraining recipe."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()
rows = [dict(tok(t + " <eos>")) for t in tiny.texts(80)]
trainer = Trainer(
    model=get_peft_model(tiny.model(), LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"])),
    args=TrainingArguments(
        "out",
        max_steps=20,
        learning_rate=2e-4,
        warmup_steps=2_000_000,
        use_cpu=True,
        report_to="none",
        logging_steps=1,
        eval_strategy="steps",
        eval_steps=10,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(rows[:64]),
    eval_dataset=Dataset.from_list(rows[64:]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
