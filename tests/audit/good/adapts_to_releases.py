"""Runs on every TRL since 0.9."""

import inspect

import trl
from datasets import load_dataset
from packaging.version import Version
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

NAME = "Qwen/Qwen2.5-0.5B"
length = "max_length" if Version(trl.__version__) >= Version("0.20.0") else "max_seq_length"
tokenizer = AutoTokenizer.from_pretrained(NAME)
if "processing_class" in inspect.signature(SFTTrainer.__init__).parameters:
    named = {"processing_class": tokenizer}
else:
    named = {"tokenizer": tokenizer}
SFTTrainer(
    AutoModelForCausalLM.from_pretrained(NAME),
    args=SFTConfig("out", **{length: 512}),
    train_dataset=load_dataset("trl-lib/Capybara", split="train"),
    **named,
).train()
