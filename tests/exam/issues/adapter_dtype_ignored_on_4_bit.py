"""autocast_adapter_dtype=False keeps adapters in the dtype of the base model, on 4-bit weights too."""

import tempfile

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

SIZES = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
quantization = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
with tempfile.TemporaryDirectory() as folder:
    LlamaForCausalLM(LlamaConfig(vocab_size=64, **SIZES)).to(torch.bfloat16).save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=quantization, torch_dtype=torch.bfloat16, device_map="cpu"
    )
model = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj"]), autocast_adapter_dtype=False)
dtypes = {str(parameter.dtype) for name, parameter in model.named_parameters() if "lora_" in name}
assert dtypes == {"torch.bfloat16"}, f"the adapter is {' and '.join(dtypes)}, and bfloat16 was asked for"
