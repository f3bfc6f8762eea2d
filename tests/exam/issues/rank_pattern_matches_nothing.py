"""A key of rank_pattern that matches no module is a mistake, and PEFT says so."""

import warnings

from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
model = LlamaForCausalLM(LlamaConfig(vocab_size=64, **SIZES))
# The module is called self_attn.q_proj, so no layer gets rank 16.
config = LoraConfig(r=4, target_modules=["q_proj"], rank_pattern={"attention.q_proj": 16})
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    model = get_peft_model(model, config)
ranks = {parameter.shape[0] for name, parameter in model.named_parameters() if "lora_A" in name}
said = [str(one.message) for one in warned if "rank_pattern" in str(one.message)]
assert ranks == {4}, f"the ranks are {ranks}"
assert said, "every layer has rank 4, and nothing says that rank_pattern matches no layer"
