"""DPO over an 8-bit base: everything is prepared after the adapter is on it."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from trl import DPOConfig, DPOTrainer

import tiny

base = tiny.saved("Llama", hidden_size=64, intermediate_size=128)
model = AutoModelForCausalLM.from_pretrained(
    base, quantization_config=BitsAndBytesConfig(load_in_8bit=True), device_map={"": "cpu"}
)
model = get_peft_model(model, LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]))
model = prepare_model_for_kbit_training(model, gradient_checkpointing_kwargs={"use_reentrant": False})
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
    processing_class=AutoTokenizer.from_pretrained(base),
)
trainer.train()
