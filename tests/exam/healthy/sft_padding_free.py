"""padding_free=True: a batch is one long row with position ids that start again."""

import tiny
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

tok = tiny.tokenizer()
rows = Dataset.from_list(tiny.text_rows(80))
trainer = SFTTrainer(
    model=tiny.model("Qwen2"),
    args=SFTConfig(
        output_dir="flat",
        num_train_epochs=3,
        learning_rate=5e-3,
        padding_free=True,
        max_length=None,
        use_cpu=True,
        bf16=False,
        per_device_train_batch_size=8,
        report_to="none",
        logging_steps=6,
        eval_strategy="epoch",
        save_strategy="no",
    ),
    train_dataset=rows.select(range(64)),
    eval_dataset=rows.select(range(64, 80)),
    processing_class=tok,
)
trainer.train()
