"""SFT on prompt and completion with a short maximal length, to save memory."""

from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

import tiny

tok = tiny.tokenizer()
rows = [{"prompt": q, "completion": f" {a} {a} {a} {a}"} for q, a in tiny.questions()]
trainer = SFTTrainer(
    model=tiny.model("Qwen3", head_dim=8),
    args=SFTConfig(
        output_dir="out",
        max_length=12,
        max_steps=16,
        learning_rate=1e-2,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=4,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(rows),
    processing_class=tok,
    peft_config=LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]),
)
trainer.train()
trainer.save_model("out/final")
