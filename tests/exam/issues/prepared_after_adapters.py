"""prepare_model_for_kbit_training on a PeftModel leaves its adapter trainable."""

from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import LlamaConfig, LlamaForCausalLM

SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
model = LlamaForCausalLM(LlamaConfig(vocab_size=64, **SIZES))
model = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj"]))
model = prepare_model_for_kbit_training(model)
assert any(parameter.requires_grad for parameter in model.parameters()), "nothing is trainable, and nothing says so"
