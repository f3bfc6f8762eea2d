"""Goes on from a checkpoint; a callback sets the adapter up when training begins."""

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainerCallback, TrainingArguments

import tiny

tok = tiny.tokenizer()


class Orthogonal(TrainerCallback):
    def on_train_begin(self, args, state, control, model=None, **kwargs):
        for name, parameter in model.named_parameters():
            if "lora_A" in name:
                torch.nn.init.orthogonal_(parameter)
            elif "lora_B" in name:
                torch.nn.init.zeros_(parameter)


def run(steps, resume):
    model = get_peft_model(tiny.model(), LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=tiny.TARGETS))
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            "out", max_steps=steps, save_steps=12, learning_rate=5e-3, use_cpu=True, report_to="none", logging_steps=1
        ),
        train_dataset=Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts()]),
        data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
        callbacks=[Orthogonal()],
    )
    trainer.train(resume_from_checkpoint=resume)


run(12, None)
run(24, True)
