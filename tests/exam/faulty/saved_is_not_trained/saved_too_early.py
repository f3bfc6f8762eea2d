"""SFT with LoRA; model card and adapter go to one folder."""

from pathlib import Path

import tiny
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from trl import SFTConfig, SFTTrainer

tok = tiny.tokenizer()
model = get_peft_model(
    tiny.model("Qwen2"), LoraConfig(r=8, lora_alpha=16, task_type="CAUSAL_LM", target_modules=tiny.TARGETS)
)
target = Path("out/release")
trainer = SFTTrainer(
    model=model,
    args=SFTConfig(
        output_dir="out",
        max_steps=20,
        learning_rate=1e-2,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        logging_steps=5,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.text_rows()),
    **tiny.reader(SFTTrainer, tok),
)
model.save_pretrained(target)
tok.save_pretrained(target)
(target / "README.md").write_text("# Adapter\n\nTrained with LoRA, rank 8.\n")
trainer.train()
print("released in", target)
