"""Full fine-tuning with SFT."""

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

import tiny

tok = tiny.tokenizer()
trainer = SFTTrainer(
    model=tiny.model("Llama"),
    args=tiny.known(
        SFTConfig,
        output_dir="out",
        dataset_text_field="text",
        max_seq_length=64,
        max_length=64,
        max_steps=16,
        learning_rate=1.0,
        lr_scheduler_type="constant",
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=1,
        eval_strategy="steps",
        eval_steps=8,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list([{"text": t + " <eos>"} for t in tiny.texts()]),
    eval_dataset=Dataset.from_list([{"text": t + " <eos>"} for t in tiny.texts(16, 1)]),
    **tiny.reader(SFTTrainer, tok),
)
trainer.train()
