"""SFT; the model is saved at the end."""

import copy

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from trl import SFTConfig, SFTTrainer

import tiny


def train(model, tok):
    trainer = SFTTrainer(
        model=copy.deepcopy(model),
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
            gradient_checkpointing=False,
            report_to="none",
            logging_steps=4,
            save_strategy="no",
        ),
        train_dataset=Dataset.from_list([{"text": t + " <eos>"} for t in tiny.texts()]),
        **tiny.reader(SFTTrainer, tok),
    )
    trainer.train()
    return model


tok = tiny.tokenizer()
model = get_peft_model(tiny.model("Llama"), LoraConfig(r=8, task_type="CAUSAL_LM", target_modules="all-linear"))
train(model, tok).save_pretrained("out/final")
tok.save_pretrained("out/final")
