"""A trained copy of the embeddings of a model with tied embeddings is merged: the head is tied to it, as it was."""

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(vocab_size=64, tie_word_embeddings=True, **SIZES)).eval()
options = {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}
try:
    config = LoraConfig(r=4, ensure_weight_tying=True, **options)
except TypeError:
    config = LoraConfig(r=4, **options)  # releases without the option
model = get_peft_model(model, config)
with torch.no_grad():
    for name, parameter in model.named_parameters():
        if "modules_to_save" in name:
            parameter += 1.0  # what training would change
merged = model.merge_and_unload()
same = torch.equal(merged.get_input_embeddings().weight, merged.get_output_embeddings().weight)
assert same, "the head has the old embeddings: the model saved after merging is not the one that was trained"
