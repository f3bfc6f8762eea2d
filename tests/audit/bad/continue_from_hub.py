"""Second round of training on an adapter from the hub."""

from datasets import load_dataset
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

BASE, ADAPTER = "Qwen/Qwen2.5-1.5B-Instruct", "me/first-round"


def load():
    base = AutoModelForCausalLM.from_pretrained(BASE)
    return PeftModel.from_pretrained(base, ADAPTER, adapter_name="default")


def main():
    model = load()
    model.train()
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig("second", num_train_epochs=1),
        train_dataset=load_dataset("json", data_files="more.jsonl", split="train"),
        processing_class=AutoTokenizer.from_pretrained(BASE),
    )
    trainer.train()


main()
