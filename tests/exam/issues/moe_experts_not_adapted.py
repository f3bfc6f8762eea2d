"""LoRA on the experts' linear layers of Mixtral, named as in its documentation, has parameters in the experts."""

from peft import LoraConfig, get_peft_model
from transformers import MixtralConfig, MixtralForCausalLM

SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
config = MixtralConfig(vocab_size=64, num_key_value_heads=2, num_local_experts=4, **SIZES)
model = MixtralForCausalLM(config)
model = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj", "w1", "w2", "w3"]))
adapted = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
assert any("q_proj" in name for name in adapted), "no attention layer is adapted"
assert any("experts" in name for name in adapted), "no expert is adapted"
