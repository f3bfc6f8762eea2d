"""Stage one gave an adapter; stage two goes on with DPO."""

import tempfile

from datasets import Dataset
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

import tiny

base, stage_one = tiny.saved("Llama"), tempfile.mkdtemp(prefix="sft-")
lora = LoraConfig(r=8, lora_alpha=16, task_type="CAUSAL_LM", target_modules=tiny.TARGETS, init_lora_weights=False)
get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora).save_pretrained(stage_one)

config = PeftConfig.from_pretrained(stage_one)
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), stage_one, config=config)
model.enable_input_require_grads()
model.train()
trainer = DPOTrainer(
    model=model,
    args=DPOConfig(
        "out",
        max_steps=8,
        learning_rate=1e-3,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.preference_rows()),
    eval_dataset=Dataset.from_list(tiny.preference_rows(16, 2)),
    processing_class=AutoTokenizer.from_pretrained(base),
)
trainer.train()
trainer.save_model("out/final")
