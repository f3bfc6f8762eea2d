"""LoRA+: lora_B learns sixteen times as fast as lora_A; the optimizer is handed to the trainer."""

import tiny
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from peft.optimizers import create_loraplus_optimizer
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

tok = tiny.tokenizer()
data = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(80)])
model = get_peft_model(tiny.model(), LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "k_proj", "v_proj"]))
optimizer = create_loraplus_optimizer(
    model=model, optimizer_cls=torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=16, loraplus_weight_decay=0.0
)
print("rates:", sorted({group["lr"] for group in optimizer.param_groups}))
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        output_dir="out-loraplus", max_steps=30, use_cpu=True, report_to="none", logging_steps=5, save_strategy="no"
    ),
    train_dataset=data.select(range(64)),
    eval_dataset=data.select(range(64, 80)),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
    optimizers=(optimizer, None),
)
trainer.train()
print(trainer.evaluate())
