"""SFT on long prompts with short completions."""

from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

import tiny

tok = tiny.tokenizer()
rows = [{"prompt": " ".join([q] * 6), "completion": f" {a}"} for q, a in tiny.questions()]
trainer = SFTTrainer(
    model=tiny.model(),
    args=SFTConfig(
        output_dir="out",
        max_length=20,
        completion_only_loss=True,
        max_steps=10,
        learning_rate=1e-3,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(rows),
    processing_class=tok,
    peft_config=LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear"),
)
trainer.train()
trainer.save_model("out/final")
