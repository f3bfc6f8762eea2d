"""Lion written in the script: every weight moves by the same amount, whatever its gradient."""

import tiny
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments


class Lion(torch.optim.Optimizer):
    def __init__(self, params, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            quick, slow = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_((m * quick + p.grad * (1 - quick)).sign_(), alpha=-group["lr"])
                m.mul_(slow).add_(p.grad, alpha=1 - slow)


tok = tiny.tokenizer()
rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(64)])
model = get_peft_model(tiny.model(), LoraConfig(task_type="CAUSAL_LM", r=8, target_modules="all-linear"))
optimizer = Lion([p for p in model.parameters() if p.requires_grad], lr=3e-3)
trainer = Trainer(
    model=model,
    args=TrainingArguments("lion", max_steps=30, use_cpu=True, report_to="none", logging_steps=5, save_strategy="no"),
    train_dataset=rows,
    eval_dataset=rows.select(range(16)),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
    optimizers=(optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)),
)
trainer.train()
print(trainer.evaluate())
