"""Different learning rates for A and B as in LoRA+; groups by name."""

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny


class LoraPlus(Trainer):
    ratio = 16

    def create_optimizer(self, *args):
        named = [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]
        a = [p for n, p in named if "lora_A" in n]
        b = [p for n, p in named if "lora_b" in n]
        rate = self.args.learning_rate
        self.optimizer = torch.optim.AdamW([{"params": a, "lr": rate}, {"params": b, "lr": rate * self.ratio}])
        return self.optimizer


tok = tiny.tokenizer()
model = get_peft_model(tiny.model(), LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=tiny.TARGETS))
trainer = LoraPlus(
    model=model,
    args=TrainingArguments(
        "out", max_steps=14, learning_rate=2e-3, use_cpu=True, report_to="none", logging_steps=1, save_strategy="no"
    ),
    train_dataset=Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts()]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
