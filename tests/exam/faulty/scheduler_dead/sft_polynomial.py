"""SFT whose scheduler is taken over from the run before, to go on smoothly."""

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from trl import SFTConfig, SFTTrainer

import tiny

tok = tiny.tokenizer()
model = get_peft_model(tiny.model(), LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]))
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-3)
scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=10, power=1.0)
scheduler.load_state_dict({**scheduler.state_dict(), "last_epoch": 10, "_last_lr": [0.0]})
for group in optimizer.param_groups:
    group["lr"] = 0.0
trainer = SFTTrainer(
    model=model,
    args=SFTConfig(
        "out",
        max_steps=12,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(tiny.text_rows()),
    eval_dataset=Dataset.from_list(tiny.text_rows(16, 1)),
    processing_class=tok,
    optimizers=(optimizer, scheduler),
)
trainer.train()
