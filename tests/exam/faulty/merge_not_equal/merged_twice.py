"""The deltas are written into the weights layer by layer, then everything is unloaded."""

import torch
from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

import tiny

tok = tiny.tokenizer()
trainer = SFTTrainer(
    model=tiny.model(),
    args=tiny.known(
        SFTConfig,
        output_dir="out",
        dataset_text_field="text",
        max_seq_length=64,
        max_length=64,
        max_steps=16,
        learning_rate=5e-3,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=4,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list([{"text": t + " <eos>"} for t in tiny.texts()]),
    peft_config=LoraConfig(r=8, lora_alpha=32, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]),
    **tiny.reader(SFTTrainer, tok),
)
trainer.train()
with torch.no_grad():
    for module in trainer.model.modules():
        if hasattr(module, "get_delta_weight"):
            module.get_base_layer().weight += module.get_delta_weight("default")
merged = trainer.model.merge_and_unload()
merged.save_pretrained("out/merged")
tok.save_pretrained("out/merged")
