"""Go on with SFT from a saved adapter; TRL switches gradient checkpointing on by itself."""

import tempfile

from datasets import Dataset
from peft import AutoPeftModelForCausalLM, LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer

import tiny

tok, base, adapter = tiny.tokenizer(), tiny.saved("Llama"), tempfile.mkdtemp()
get_peft_model(
    AutoModelForCausalLM.from_pretrained(base),
    LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=tiny.TARGETS, init_lora_weights=False),
).save_pretrained(adapter)

model = AutoPeftModelForCausalLM.from_pretrained(adapter)
trainer = SFTTrainer(
    model=model,
    args=SFTConfig(
        "out",
        max_steps=10,
        learning_rate=5e-3,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=True,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.text_rows()),
    eval_dataset=Dataset.from_list(tiny.text_rows(16, 1)),
    processing_class=tok,
)
trainer.train()
trainer.save_model("out/final")
