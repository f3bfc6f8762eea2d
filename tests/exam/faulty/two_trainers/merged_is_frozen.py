"""SFT with LoRA, merged; then DPO of the whole merged model."""

from datasets import Dataset
from peft import LoraConfig
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

import tiny

tok = tiny.tokenizer()
shared = {
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": True,
    "report_to": "none",
    "logging_steps": 4,
    "save_strategy": "no",
}
sft = SFTTrainer(
    model=tiny.model("Llama"),
    args=SFTConfig(output_dir="sft", max_steps=16, learning_rate=1e-2, **shared),
    train_dataset=Dataset.from_list(tiny.text_rows(64)),
    peft_config=LoraConfig(r=8, lora_alpha=16, task_type="CAUSAL_LM", target_modules=tiny.TARGETS),
    **tiny.reader(SFTTrainer, tok),
)
sft.train()
merged = sft.model.merge_and_unload()

dpo = DPOTrainer(
    model=merged,
    ref_model=tiny.model("Llama"),
    args=DPOConfig(output_dir="dpo", max_steps=12, learning_rate=1e-3, **shared),
    train_dataset=Dataset.from_list(tiny.preference_rows(64)),
    **tiny.reader(DPOTrainer, tok),
)
dpo.train()
dpo.save_model("dpo/final")
