"""A token that was added to the vocabulary is trained with the adapter, since its embedding was drawn at random."""

import warnings

from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
model = LlamaForCausalLM(LlamaConfig(vocab_size=64, **SIZES))
model.resize_token_embeddings(65)
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    model = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj"]))
trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
said = [str(one.message) for one in warned if "embed" in str(one.message)]
assert any("q_proj" in name for name in trainable), "the adapter is frozen"
assert said or any("embed_tokens" in name for name in trainable), "the new token stays as it was drawn: it is frozen"
