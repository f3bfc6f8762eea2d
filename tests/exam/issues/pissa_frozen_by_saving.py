"""Saving a PiSSA adapter as plain LoRA, as PEFT's documentation does it, leaves the adapter trainable."""

import tempfile

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(vocab_size=64, **SIZES))
model = get_peft_model(model, LoraConfig(r=4, init_lora_weights="pissa", target_modules=["q_proj"]))
with tempfile.TemporaryDirectory() as folder:
    model.peft_config["default"].init_lora_weights = True  # the initial adapter must be loaded as it is
    model.save_pretrained(f"{folder}/initial")
    model.peft_config["default"].init_lora_weights = "pissa"
    before = sum(parameter.requires_grad for parameter in model.parameters())
    model.save_pretrained(f"{folder}/checkpoint", path_initial_model_for_weight_conversion=f"{folder}/initial")
after = sum(parameter.requires_grad for parameter in model.parameters())
assert after == before, f"{before} tensors were trainable before it was saved, and {after} are after"
