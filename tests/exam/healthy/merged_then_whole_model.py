"""LoRA first; then it is merged, every weight is thawed, and a second trainer trains the whole model a little more."""

import tiny
from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

tok = tiny.tokenizer()
shared = {
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "report_to": "none",
    "logging_steps": 4,
    "save_strategy": "no",
}
first = SFTTrainer(
    model=tiny.model("Llama"),
    args=SFTConfig(output_dir="first", max_steps=16, learning_rate=1e-2, **shared),
    train_dataset=Dataset.from_list(tiny.text_rows(64)),
    peft_config=LoraConfig(r=8, lora_alpha=16, task_type="CAUSAL_LM", target_modules=tiny.TARGETS),
    **tiny.reader(SFTTrainer, tok),
)
first.train()
merged = first.model.merge_and_unload()
merged.requires_grad_(True)

second = SFTTrainer(
    model=merged,
    args=SFTConfig(
        output_dir="second", max_steps=16, learning_rate=1e-3, eval_strategy="steps", eval_steps=8, **shared
    ),
    train_dataset=Dataset.from_list(tiny.completion_rows(64, seed=2)),
    eval_dataset=Dataset.from_list(tiny.completion_rows(16, seed=7)),
    **tiny.reader(SFTTrainer, tok),
)
second.train()
second.save_model("second/final")
