"""The run is stopped at half and resumed from its checkpoint by a second trainer."""

import os
import shutil

import tiny
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

OUT = "resumed"
shutil.rmtree(OUT, ignore_errors=True)
tok = tiny.tokenizer()
rows = Dataset.from_list([dict(tok(text + " <eos>")) for text in tiny.texts(64)])


class Stop(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step >= 10


def build(*callbacks):
    model = get_peft_model(tiny.model(), LoraConfig(task_type="CAUSAL_LM", target_modules=tiny.TARGETS))
    return Trainer(
        model=model,
        args=TrainingArguments(
            OUT, max_steps=24, learning_rate=1e-2, use_cpu=True, report_to="none", logging_steps=4, save_steps=5
        ),
        train_dataset=rows,
        eval_dataset=rows.select(range(16)),
        data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
        callbacks=list(callbacks),
    )


build(Stop()).train()
last = get_last_checkpoint(OUT)
print("resuming from", os.path.basename(last))
trainer = build()
trainer.train(resume_from_checkpoint=last)
print("steps done:", trainer.state.global_step, trainer.evaluate()["eval_loss"])
