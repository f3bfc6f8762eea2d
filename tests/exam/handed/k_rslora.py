"""rsLoRA whose strength is set anew to what the config asks for (factor 1), then SFT."""

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer
from tiny_qwen2 import TARGETS, place, texts, tokenizer

model = AutoModelForCausalLM.from_pretrained(place(), device_map={"": "cpu"})
model = get_peft_model(
    model, LoraConfig(r=16, lora_alpha=16, use_rslora=True, target_modules=TARGETS, task_type="CAUSAL_LM")
)
layers = [m for m in model.modules() if isinstance(m, LoraLayer)]
print("scaling before", layers[0].scaling)
for layer in layers:
    layer.set_scale("default", 1.0)
print("scaling after", layers[0].scaling)
trainer = SFTTrainer(
    model=model,
    args=SFTConfig(
        output_dir="out",
        learning_rate=1e-3,
        per_device_train_batch_size=8,
        max_steps=40,
        logging_steps=1,
        report_to="none",
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
    ),
    train_dataset=Dataset.from_list([{"text": t} for t in texts(64)]),
    eval_dataset=Dataset.from_list([{"text": t} for t in texts(16, 1)]),
    processing_class=tokenizer(),
)
trainer.train()
