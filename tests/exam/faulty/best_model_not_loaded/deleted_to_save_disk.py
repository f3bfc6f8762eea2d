"""The best checkpoint is loaded at the end; a callback keeps the disk from filling up."""

import glob
import os
import random
import shutil

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForLanguageModeling, Trainer, TrainerCallback, TrainingArguments

import tiny


class OnlyTheLatest(TrainerCallback):
    def on_save(self, args, state, control, **kwargs):
        latest = os.path.join(args.output_dir, f"checkpoint-{state.global_step}")
        for folder in glob.glob(os.path.join(args.output_dir, "checkpoint-*")):
            if folder != latest:
                shutil.rmtree(folder)


tok = tiny.tokenizer()
rng = random.Random(2)


def rows(n):
    return Dataset.from_list([dict(tok(" ".join(rng.choices(tiny.WORDS[:16], k=9)) + " <eos>")) for _ in range(n)])


model = get_peft_model(
    tiny.model("Llama", hidden_size=64),
    LoraConfig(r=32, lora_alpha=128, task_type="CAUSAL_LM", target_modules=tiny.TARGETS),
)
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "out",
        max_steps=12,
        learning_rate=5e-2,
        use_cpu=True,
        report_to="none",
        logging_steps=2,
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="steps",
        save_steps=2,
        load_best_model_at_end=True,
        label_names=["labels"],
    ),
    train_dataset=rows(12),
    eval_dataset=rows(24),
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
    callbacks=[OnlyTheLatest()],
)
trainer.train()
print("eval loss of what is saved", trainer.evaluate()["eval_loss"])
model.save_pretrained("out/best")
