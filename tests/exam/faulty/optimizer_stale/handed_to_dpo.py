"""DPO with LoRA and an optimizer with grouped weight decay, made for the model and handed to the trainer."""

import torch
from datasets import Dataset
from peft import LoraConfig
from trl import DPOConfig, DPOTrainer

import tiny

tok = tiny.tokenizer()
model = tiny.model("Llama")
decayed = [p for n, p in model.named_parameters() if "norm" not in n]
others = [p for n, p in model.named_parameters() if "norm" in n]
optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.01}, {"params": others}], lr=2e-3)
trainer = DPOTrainer(
    model=model,
    args=DPOConfig(
        output_dir="out",
        max_steps=12,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        logging_steps=2,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.preference_rows(64)),
    peft_config=LoraConfig(r=8, lora_alpha=16, task_type="CAUSAL_LM", target_modules=tiny.TARGETS),
    optimizers=(optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)),
    **tiny.reader(DPOTrainer, tok),
)
trainer.train()
trainer.save_model("out/adapter")
