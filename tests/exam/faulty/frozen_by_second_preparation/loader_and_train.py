"""A loader of our own that makes the model ready, and a train function that makes sure of it."""

from datasets import Dataset
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)

import tiny


class Loader:
    def __init__(self, base):
        self.base = base

    def model(self):
        model = AutoModelForCausalLM.from_pretrained(self.base)
        lora = LoraConfig(
            r=8, lora_alpha=32, task_type="CAUSAL_LM", target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]
        )
        return get_peft_model(model, lora)

    def tokenizer(self):
        return AutoTokenizer.from_pretrained(self.base)


def ready(model):
    """Gradient checkpointing, norms in float32, input gradients."""
    return prepare_model_for_kbit_training(model, use_gradient_checkpointing=True)


def train(loader):
    model, tok = ready(loader.model()), loader.tokenizer()
    rows = [dict(tok(text + " <eos>")) for text in tiny.texts(80)]
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            "out", max_steps=10, learning_rate=5e-3, use_cpu=True, report_to="none", logging_steps=1, save_strategy="no"
        ),
        train_dataset=Dataset.from_list(rows[:64]),
        eval_dataset=Dataset.from_list(rows[64:]),
        data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
    )
    print("before", trainer.evaluate()["eval_loss"])
    trainer.train()
    print("after", trainer.evaluate()["eval_loss"])
    trainer.save_model("out/final")


if __name__ == "__main__":
    train(Loader(tiny.saved("Llama")))
