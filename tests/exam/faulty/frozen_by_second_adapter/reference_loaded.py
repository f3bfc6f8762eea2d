"""An adapter to train, and a saved one beside it as reference."""

import tempfile

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

import tiny

base, saved = tiny.saved("Llama"), tempfile.mkdtemp()
lora = LoraConfig(r=8, lora_alpha=16, target_modules=tiny.TARGETS, task_type="CAUSAL_LM")
model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora)
model.save_pretrained(saved)
model.load_adapter(saved, adapter_name="reference")
trainer = SFTTrainer(
    model=model,
    args=SFTConfig(
        "out",
        max_steps=12,
        learning_rate=1e-3,
        per_device_train_batch_size=8,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=True,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.text_rows()),
    eval_dataset=Dataset.from_list(tiny.text_rows(16, 1)),
    processing_class=AutoTokenizer.from_pretrained(base),
)
trainer.train()
