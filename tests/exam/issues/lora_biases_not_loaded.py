"""Biases that LoRA trained (bias="lora_only") are what they were after a reload."""

import tempfile

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def model():
    """A tiny Llama whose attention has biases."""
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(vocab_size=64, attention_bias=True, **SIZES))


def biases(of):
    """The biases of the adapted layers."""
    return [value for name, value in of.named_parameters() if "q_proj" in name and name.endswith("bias")]


trained = get_peft_model(model(), LoraConfig(r=4, target_modules=["q_proj"], bias="lora_only"))
with torch.no_grad():
    for bias in biases(trained):
        bias += bias.requires_grad  # what training would change
with tempfile.TemporaryDirectory() as folder:
    trained.save_pretrained(folder)
    loaded = PeftModel.from_pretrained(model(), folder)
same = all(torch.equal(one, other) for one, other in zip(biases(trained), biases(loaded), strict=True))
assert same, "the trained biases are not there after a reload"
