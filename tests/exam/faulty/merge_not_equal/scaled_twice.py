"""The adapter is merged by hand into a fresh copy of the base, for an engine that loads no adapters."""

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

import tiny

base = tiny.saved("Llama")
tok = AutoTokenizer.from_pretrained(base)
trainer = SFTTrainer(
    model=AutoModelForCausalLM.from_pretrained(base),
    args=SFTConfig(
        "out",
        max_steps=12,
        learning_rate=5e-3,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        logging_steps=4,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list([{"text": f"{row['text']} <eos>"} for row in tiny.text_rows()]),
    eval_dataset=Dataset.from_list([{"text": f"{row['text']} <eos>"} for row in tiny.text_rows(16, 1)]),
    processing_class=tok,
    peft_config=LoraConfig(r=8, lora_alpha=32, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]),
)
trainer.train()
serving = AutoModelForCausalLM.from_pretrained(base)
with torch.no_grad():
    for name, module in trainer.model.base_model.model.named_modules():
        if hasattr(module, "get_delta_weight"):
            # get_delta_weight has the factor already
            serving.get_submodule(name).weight += module.get_delta_weight("default") * module.scaling["default"]
serving.save_pretrained("out/serving")
