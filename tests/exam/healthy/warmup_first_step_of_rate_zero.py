"""A linear warm-up: the first step has rate 0 and changes nothing; the second one does."""

import tiny
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

tok = tiny.tokenizer()
rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(64)])
model = get_peft_model(tiny.model(), LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]))
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "warmup",
        max_steps=20,
        warmup_steps=10,
        learning_rate=4e-2,
        use_cpu=True,
        report_to="none",
        logging_steps=1,
        logging_first_step=True,
        save_strategy="no",
    ),
    train_dataset=rows,
    eval_dataset=rows.select(range(16)),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
print([entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry])
print(trainer.evaluate())
