"""Early stopping and the best model at the end: the run ends before max_steps, on purpose."""

import tiny
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    DataCollatorForLanguageModeling,
    EarlyStoppingCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)

set_seed(11)
tok = tiny.tokenizer()
few = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(16)])
other = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(32, seed=8)])
model = get_peft_model(
    tiny.model("Llama"), LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules=tiny.TARGETS)
)
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "best",
        num_train_epochs=60,
        learning_rate=2e-2,
        use_cpu=True,
        report_to="none",
        logging_steps=4,
        eval_strategy="steps",
        eval_steps=4,
        save_strategy="steps",
        save_steps=4,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        lr_scheduler_type="constant",
    ),
    train_dataset=few,
    eval_dataset=other,
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
    callbacks=[EarlyStoppingCallback(early_stopping_patience=3)],
)
trainer.train()
print("stopped at", trainer.state.global_step, "best", trainer.state.best_metric, trainer.evaluate()["eval_loss"])
trainer.save_model("best/final")
