"""The model is given as a path and all of it is trained, from its own dtype, with the config's defaults for the rest."""

import tiny
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

where = tiny.saved("Llama", tie_word_embeddings=True)
trainer = SFTTrainer(
    where,
    args=SFTConfig(
        output_dir="path",
        num_train_epochs=3,
        learning_rate=5e-3,
        use_cpu=True,
        bf16=False,
        report_to="none",
        gradient_checkpointing=False,
        logging_steps=6,
        save_strategy="epoch",
        save_total_limit=1,
        save_only_model=True,
        eval_strategy="epoch",
    ),
    train_dataset=Dataset.from_list(tiny.text_rows(64)),
    eval_dataset=Dataset.from_list(tiny.text_rows(16, seed=1)),
)
trainer.train()
trainer.save_model("path/final")
