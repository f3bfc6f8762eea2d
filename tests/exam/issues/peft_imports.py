"""PEFT can be imported."""

from peft import LoraConfig

assert LoraConfig(r=4).r == 4, "another rank than was asked for"
