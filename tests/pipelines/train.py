"""QLoRA fine-tuning as users of TRL wrote it before 0.21: load in 4 bits, prepare, wrap, pass the PeftModel to the
trainer.
"""

import sys

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer

place = sys.argv[1]
rows = [{"text": " ".join(f"w{(a + b * i) % 20}" for i in range(16))} for a in range(20) for b in range(1, 5)]
nf4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}

quantization = BitsAndBytesConfig(**nf4, bnb_4bit_compute_dtype=torch.float32)
model = AutoModelForCausalLM.from_pretrained(place, quantization_config=quantization, device_map="auto")
model = prepare_model_for_kbit_training(model)
targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=targets, task_type="CAUSAL_LM"))
model.print_trainable_parameters()

trainer = SFTTrainer(
    model=model,
    args=SFTConfig(
        output_dir="out",
        learning_rate=1e-2,
        per_device_train_batch_size=8,
        num_train_epochs=20,
        bf16=False,
        gradient_checkpointing=True,
        logging_steps=1,
        eval_strategy="epoch",
    ),
    train_dataset=Dataset.from_list(rows[16:]),
    eval_dataset=Dataset.from_list(rows[:16]),
    processing_class=AutoTokenizer.from_pretrained(place),
)
trainer.train()
trainer.save_model("out/final")
