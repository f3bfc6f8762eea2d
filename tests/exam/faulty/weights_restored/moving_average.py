"""A moving average of the weights (EMA), applied after each step."""

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainerCallback, TrainingArguments

import tiny


class Average(TrainerCallback):
    def __init__(self, decay=0.999):
        self.decay = decay

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.shadow = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def on_step_end(self, args, state, control, model=None, **kwargs):
        decay = max(self.decay, 1 - 1 / (1000 + state.global_step))
        for name, parameter in model.named_parameters():
            if name in self.shadow:
                average = self.shadow[name] * round(decay, 2) + parameter * (1 - round(decay, 2))
                self.shadow[name] = average
                parameter.copy_(average)


tok = tiny.tokenizer()
rows = [dict(tok(t + " <eos>")) for t in tiny.texts(80)]
trainer = Trainer(
    model=get_peft_model(tiny.model(), LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=tiny.TARGETS)),
    args=TrainingArguments(
        "out",
        max_steps=20,
        learning_rate=5e-3,
        use_cpu=True,
        report_to="none",
        logging_steps=2,
        eval_strategy="steps",
        eval_steps=10,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list(rows[:64]),
    eval_dataset=Dataset.from_list(rows[64:]),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
    callbacks=[Average()],
)
trainer.train()
