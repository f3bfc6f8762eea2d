"""A runner class around SFTTrainer."""

import json
from dataclasses import dataclass

from datasets import Dataset
from peft import LoraConfig, TaskType, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, HfArgumentParser
from trl import SFTConfig, SFTTrainer


@dataclass
class Options:
    base: str = "mistralai/Mistral-7B-v0.3"
    data: str = "data.json"
    rank: int = 8


class Runner:
    def __init__(self, options):
        self.options = options
        self.tokenizer = AutoTokenizer.from_pretrained(options.base)

    def build(self):
        config = BitsAndBytesConfig(load_in_8bit=True)
        base = AutoModelForCausalLM.from_pretrained(self.options.base, quantization_config=config)
        self.model = self.attach(base)

    def attach(self, base):
        lora = LoraConfig(r=self.options.rank, task_type=TaskType.CAUSAL_LM, target_modules=["q_proj", "v_proj"])
        return get_peft_model(base, lora)

    def fit(self):
        rows = Dataset.from_list(json.load(open(self.options.data)))
        trainer = SFTTrainer(self.model, args=SFTConfig("out", num_train_epochs=1), train_dataset=rows)
        trainer.train()
        return trainer


if __name__ == "__main__":
    (options,) = HfArgumentParser(Options).parse_args_into_dataclasses()
    runner = Runner(options)
    runner.build()
    runner.fit().save_model("out")
