"""SFT of an adapter beside which a frozen one (saved before, inference_mode) is loaded: python second_frozen.py add|load gc|nogc"""

import sys, tempfile
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer
from tiny_qwen2 import TARGETS, place, texts, tokenizer

how, gc = sys.argv[1], (sys.argv[2:] or ["gc"])[0] == "gc"
base = place()
lora = dict(r=8, lora_alpha=16, target_modules=TARGETS, task_type="CAUSAL_LM")
model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(**lora))
if how == "add":
    model.add_adapter("reference", LoraConfig(inference_mode=True, **lora))
else:
    saved = tempfile.mkdtemp(prefix="adapter-")
    model.save_pretrained(saved)
    model.load_adapter(saved, adapter_name="reference")
model.print_trainable_parameters()
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
        gradient_checkpointing=gc,
        use_cpu=True,
    ),
    train_dataset=Dataset.from_list([{"text": t} for t in texts(64)]),
    eval_dataset=Dataset.from_list([{"text": t} for t in texts(16, 1)]),
    processing_class=tokenizer(),
)
trainer.train()
