"""Goes on from the checkpoint that is there, for the number of steps in the settings."""

from pathlib import Path

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

import tiny

tok = tiny.tokenizer()


def run(seed):
    model = get_peft_model(tiny.model(), LoraConfig(r=8, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]))
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            "out", max_steps=8, save_steps=8, learning_rate=5e-3, use_cpu=True, report_to="none", logging_steps=2
        ),
        train_dataset=Dataset.from_list([dict(tok(t + " <eos>")) for t in tiny.texts(seed=seed)]),
        data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
    )
    found = sorted(Path("out").glob("checkpoint-*"))
    return trainer.train(resume_from_checkpoint=str(found[-1]) if found else None)


run(seed=0)
print(run(seed=1).metrics)
