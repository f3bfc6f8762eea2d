"""Prompt tuning; the best of several checkpoints is loaded at the end and saved."""

import tiny
from datasets import Dataset
from peft import PromptTuningConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, EarlyStoppingCallback, Trainer, TrainingArguments

tok = tiny.tokenizer()


def rows(n, seed):
    return Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts(n, seed)])


model = get_peft_model(tiny.model("Llama"), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=8))
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out",
        max_steps=60,
        learning_rate=0.1,
        use_cpu=True,
        report_to="none",
        logging_steps=10,
        eval_strategy="steps",
        eval_steps=10,
        save_strategy="steps",
        save_steps=10,
        save_total_limit=2,
        load_best_model_at_end=True,
        label_names=["labels"],
    ),
    train_dataset=rows(64, 0),
    eval_dataset=rows(24, 5),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
    callbacks=[EarlyStoppingCallback(early_stopping_patience=3)],
)
trainer.train()
print("eval loss of what is saved", trainer.evaluate()["eval_loss"])
model.save_pretrained("out/adapter")
