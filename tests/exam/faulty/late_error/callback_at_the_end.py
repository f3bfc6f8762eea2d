"""The losses are written to a file when training ends."""

import csv

from datasets import Dataset
from peft import LoraConfig
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

import tiny


class Losses(TrainerCallback):
    def __init__(self, path):
        self.path, self.rows = path, []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.rows.append((state.global_step, logs.get("loss")))

    def on_train_end(self, args, state, control, **kwargs):
        with open(self.path, "w", newline="") as file:
            csv.writer(file).writerows([("step", "loss"), *self.rows])


tok = tiny.tokenizer()
trainer = SFTTrainer(
    model=tiny.model("Llama"),
    args=tiny.known(
        SFTConfig,
        output_dir="out",
        dataset_text_field="text",
        max_seq_length=64,
        max_length=64,
        max_steps=14,
        learning_rate=5e-3,
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=2,
        save_strategy="no",
    ),
    train_dataset=Dataset.from_list([{"text": t + " <eos>"} for t in tiny.texts()]),
    peft_config=LoraConfig(r=8, task_type="CAUSAL_LM", target_modules="all-linear"),
    callbacks=[Losses("plots/losses.csv")],
    **tiny.reader(SFTTrainer, tok),
)
trainer.train()
trainer.save_model("out/final")
