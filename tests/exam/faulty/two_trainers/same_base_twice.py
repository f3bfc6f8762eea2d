"""Two adapters for two tasks, one after the other, both kept."""

from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

import tiny

tok = tiny.tokenizer()
base = tiny.model()
lora = LoraConfig(r=8, lora_alpha=16, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"])


def train(task, seed):
    trainer = SFTTrainer(
        model=base,
        args=SFTConfig(
            f"out/{task}",
            max_steps=12,
            learning_rate=5e-3,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to="none",
            logging_steps=3,
            save_strategy="no",
        ),
        train_dataset=Dataset.from_list(tiny.text_rows(seed=seed)),
        processing_class=tok,
        peft_config=lora,
    )
    trainer.train()
    return trainer


trainers = {task: train(task, seed) for seed, task in enumerate(("summary", "translation"))}
for task, trainer in trainers.items():
    trainer.save_model(f"out/{task}/final")
