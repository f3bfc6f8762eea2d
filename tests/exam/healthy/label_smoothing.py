"""Label smoothing: the training loss stays well above the evaluation loss and that is right."""

import tiny
from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

tok = tiny.tokenizer()
rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(80)])
trainer = Trainer(
    model=tiny.model("Qwen2"),
    args=TrainingArguments(
        "smooth",
        num_train_epochs=3,
        learning_rate=5e-3,
        label_smoothing_factor=0.1,
        use_cpu=True,
        report_to="none",
        logging_steps=4,
        eval_strategy="epoch",
        save_strategy="no",
    ),
    train_dataset=rows.select(range(64)),
    eval_dataset=rows.select(range(64, 80)),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
