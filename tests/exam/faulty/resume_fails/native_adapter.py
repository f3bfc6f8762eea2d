"""Transformers' own adapter, and a second run that goes on from a checkpoint."""

from datasets import Dataset
from peft import LoraConfig
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()


def trainer():
    model = tiny.model()
    model.add_adapter(LoraConfig(r=8, target_modules=["q_proj", "v_proj"]))
    return Trainer(
        model=model,
        args=TrainingArguments(
            "out", max_steps=8, save_steps=4, learning_rate=5e-3, use_cpu=True, report_to="none", logging_steps=2
        ),
        train_dataset=Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts()]),
        data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
    )


trainer().train()
trainer().train(resume_from_checkpoint="out/checkpoint-4")
