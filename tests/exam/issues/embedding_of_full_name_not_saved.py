"""LoRA on the embeddings, named by their full name: the adapter has the embeddings, as it has those of the short name."""

import tempfile

from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
model = LlamaForCausalLM(LlamaConfig(vocab_size=64, tie_word_embeddings=False, **SIZES))
model = get_peft_model(model, LoraConfig(r=2, target_modules=["model.embed_tokens", "q_proj"]))
with tempfile.TemporaryDirectory() as folder:
    model.save_pretrained(folder)
    saved = load_file(f"{folder}/adapter_model.safetensors")
assert any("lora_embedding_A" in name for name in saved), "the embeddings are not adapted"
assert any(name.endswith("embed_tokens.base_layer.weight") for name in saved), "the embeddings are not saved"
