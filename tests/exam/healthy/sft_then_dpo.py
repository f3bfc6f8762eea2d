"""Two trainers in one script: SFT, merge, save, load again, then DPO with a new adapter."""

import shutil

import tiny
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

shutil.rmtree("pipeline", ignore_errors=True)
shared = {
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "report_to": "none",
    "logging_steps": 4,
    "save_strategy": "no",
    "per_device_train_batch_size": 8,
}
lora = LoraConfig(task_type="CAUSAL_LM", r=8, target_modules=tiny.TARGETS)
tok = tiny.tokenizer()

sft = SFTTrainer(
    model=tiny.model("Llama"),
    args=SFTConfig(output_dir="pipeline/sft", max_steps=16, learning_rate=1e-2, **shared),
    train_dataset=Dataset.from_list([{"text": f"{q} {a} <eos>"} for q, a in tiny.questions(64)]),
    eval_dataset=Dataset.from_list([{"text": f"{q} {a} <eos>"} for q, a in tiny.questions(16, seed=1)]),
    processing_class=tok,
    peft_config=lora,
)
sft.train()
sft.model.merge_and_unload().save_pretrained("pipeline/merged")
tok.save_pretrained("pipeline/merged")

dpo = DPOTrainer(
    model=AutoModelForCausalLM.from_pretrained("pipeline/merged"),
    args=DPOConfig(output_dir="pipeline/dpo", max_steps=12, learning_rate=1e-2, max_length=32, **shared),
    train_dataset=Dataset.from_list(tiny.preference_rows(64)),
    eval_dataset=Dataset.from_list(tiny.preference_rows(16, seed=1)),
    processing_class=AutoTokenizer.from_pretrained("pipeline/merged"),
    peft_config=lora,
)
dpo.train()
dpo.save_model("pipeline/adapter")
