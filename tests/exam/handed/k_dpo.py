"""DPO: python dpo.py BATCH ACCUMULATION full|nf4 config|model"""

import sys, torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from trl import DPOConfig, DPOTrainer
from tiny_qwen2 import TARGETS, pairs, place, tokenizer

batch, accumulate, precision, way = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
bnb = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
model = AutoModelForCausalLM.from_pretrained(
    place(), device_map={"": "cpu"}, **({"quantization_config": bnb} if precision == "nf4" else {})
)
lora = LoraConfig(
    r=8, lora_alpha=16, lora_dropout=0.0, use_dora="dora" in sys.argv, target_modules=TARGETS, task_type="CAUSAL_LM"
)
more = {"peft_config": lora}
if way == "model":
    if precision == "nf4":
        model = prepare_model_for_kbit_training(model)
    model, more = get_peft_model(model, lora), {}
trainer = DPOTrainer(
    model=model,
    args=DPOConfig(
        output_dir="out",
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulate,
        max_steps=40,
        learning_rate=2e-4 if "dora" in sys.argv else 1e-3,
        lr_scheduler_type="constant",
        logging_steps=1,
        report_to="none",
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
        max_length=32,
    ),
    train_dataset=Dataset.from_list(pairs(64)),
    eval_dataset=Dataset.from_list(pairs(16, 1)),
    processing_class=tokenizer(),
    **more,
)
trainer.train()
trainer.save_model("out/final")
