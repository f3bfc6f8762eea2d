"""QLoRA as the documentation has it: 4-bit base and peft_config to the trainer, which prepares the model itself."""

import tiny
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer

where = tiny.saved("Llama", hidden_size=64, intermediate_size=128)
model = AutoModelForCausalLM.from_pretrained(
    where,
    quantization_config=BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.float32,
        bnb_4bit_use_double_quant=True,
    ),
    device_map={"": "cpu"},
)
trainer = SFTTrainer(
    model=model,
    args=SFTConfig(
        output_dir="qlora",
        max_steps=20,
        learning_rate=1e-2,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=4,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.text_rows(64)),
    eval_dataset=Dataset.from_list(tiny.text_rows(16, seed=1)),
    processing_class=AutoTokenizer.from_pretrained(where),
    peft_config=LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules=tiny.TARGETS),
)
trainer.train()
print(trainer.evaluate())
trainer.save_model("qlora/adapter")
