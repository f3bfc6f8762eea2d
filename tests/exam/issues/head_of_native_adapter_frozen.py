"""model.add_adapter of Transformers trains the modules that modules_to_save names."""

from peft import LoraConfig
from transformers import LlamaConfig, LlamaForCausalLM

SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
model = LlamaForCausalLM(LlamaConfig(vocab_size=64, tie_word_embeddings=False, **SIZES))
model.add_adapter(LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["lm_head"]))
trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
assert any("lora_A" in name for name in trainable), "the adapter is frozen"
assert any("lm_head" in name for name in trainable), "the head is frozen"
