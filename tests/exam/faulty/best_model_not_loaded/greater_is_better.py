"""The best checkpoint at the end, by the loss on held-out rows."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()
rows = [dict(tok(t + " <eos>")) for t in tiny.texts(80)]
trainer = Trainer(
    model=get_peft_model(tiny.model(), LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=tiny.TARGETS)),
    args=TrainingArguments(
        "out",
        max_steps=24,
        learning_rate=5e-3,
        use_cpu=True,
        report_to="none",
        logging_steps=4,
        eval_strategy="steps",
        eval_steps=8,
        save_strategy="steps",
        save_steps=8,
        load_best_model_at_end=True,
        metric_for_best_model="loss",
        greater_is_better=True,
    ),
    train_dataset=Dataset.from_list(rows[:64]),
    eval_dataset=Dataset.from_list(rows[64:]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
print(trainer.state.best_metric, trainer.state.best_model_checkpoint, trainer.evaluate()["eval_loss"])
trainer.save_model("out/best")
