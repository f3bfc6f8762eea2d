"""LoRA without task type; the best checkpoint by eval_loss is loaded at the end."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()
rows = [dict(tok(t + " <eos>")) for t in tiny.texts(80)]
trainer = Trainer(
    model=get_peft_model(tiny.model(), LoraConfig(r=8, target_modules="all-linear")),
    args=TrainingArguments(
        "out",
        max_steps=12,
        learning_rate=5e-3,
        use_cpu=True,
        report_to="none",
        logging_steps=3,
        eval_strategy="steps",
        eval_steps=6,
        save_strategy="steps",
        save_steps=6,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
    ),
    train_dataset=Dataset.from_list(rows[:64]),
    eval_dataset=Dataset.from_list(rows[64:]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
trainer.save_model("out/best")
