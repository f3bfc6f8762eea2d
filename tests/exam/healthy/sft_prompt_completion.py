"""Prompt and completion columns: only the completion is learned, with its end token."""

import tiny
from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

tok = tiny.tokenizer()
trainer = SFTTrainer(
    model=tiny.model("Llama"),
    args=SFTConfig(
        output_dir="completion",
        num_train_epochs=3,
        learning_rate=1e-2,
        use_cpu=True,
        bf16=False,
        completion_only_loss=True,
        report_to="none",
        logging_steps=6,
        eval_strategy="epoch",
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.completion_rows(64)),
    eval_dataset=Dataset.from_list(tiny.completion_rows(16, seed=1)),
    processing_class=tok,
    peft_config=LoraConfig(task_type="CAUSAL_LM", r=16, target_modules=tiny.TARGETS),
)
trainer.train()
