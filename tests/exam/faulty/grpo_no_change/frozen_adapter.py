"""GRPO from an SFT adapter."""

import tempfile

from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

import tiny

base, sft = tiny.saved("Llama"), tempfile.mkdtemp()
lora = LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=tiny.TARGETS, init_lora_weights=False)
get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora).save_pretrained(sft)
model = AutoModelForCausalLM.from_pretrained(base)
model.enable_input_require_grads()
model = PeftModel.from_pretrained(model, sft)
tok = AutoTokenizer.from_pretrained(base, padding_side="left")
trainer = GRPOTrainer(
    model=model,
    reward_funcs=lambda completions, **kwargs: [float(len(set(c.split()))) for c in completions],
    args=GRPOConfig(
        "out",
        max_steps=5,
        learning_rate=1e-3,
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=8,
        beta=0.0,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.prompt_rows()),
    processing_class=tok,
)
trainer.train()
