"""Eight micro-batches a step, and gradients clipped to a very small norm: Adam does not mind the scale."""

import tiny
from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

tok = tiny.tokenizer()
rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(128)])
trainer = Trainer(
    model=tiny.model("Qwen2"),
    args=TrainingArguments(
        "clipped",
        max_steps=16,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=8,
        max_grad_norm=0.01,
        learning_rate=5e-3,
        use_cpu=True,
        report_to="none",
        logging_steps=2,
        save_strategy="no",
    ),
    train_dataset=rows,
    eval_dataset=rows.select(range(16)),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
print(trainer.evaluate())
