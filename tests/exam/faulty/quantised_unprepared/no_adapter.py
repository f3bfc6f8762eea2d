"""SFT of an 8-bit model."""

from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer

import tiny

base = tiny.saved("Llama", hidden_size=64, intermediate_size=128)
model = AutoModelForCausalLM.from_pretrained(
    base, quantization_config=BitsAndBytesConfig(load_in_8bit=True), device_map={"": "cpu"}
)
trainer = SFTTrainer(
    model=model,
    args=SFTConfig(
        "out",
        max_steps=10,
        learning_rate=1e-3,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=2,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.text_rows()),
    processing_class=AutoTokenizer.from_pretrained(base),
)
trainer.train()
