"""LoRA with Llama's target modules on Phi-3, which fuses projections: PEFT adapts all that was asked for, or says so."""

import warnings

from peft import LoraConfig, get_peft_model
from transformers import Phi3Config, Phi3ForCausalLM

SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
ASKED = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
model = Phi3ForCausalLM(Phi3Config(vocab_size=64, pad_token_id=0, **SIZES))
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    model = get_peft_model(model, LoraConfig(r=4, target_modules=ASKED))
adapted = {name.split(".")[-4] for name, _ in model.named_parameters() if "lora_A" in name}
assert "o_proj" in adapted, "nothing is adapted"
said = [str(one.message) for one in warned if "q_proj" in str(one.message)]
assert said, f"only {' and '.join(sorted(adapted))} are adapted, and nothing says so"
