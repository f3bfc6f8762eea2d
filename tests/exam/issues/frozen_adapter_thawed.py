"""A frozen adapter stays frozen when it was disabled for a while, as trainers do it for the reference model."""

import tempfile

from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def model():
    """A tiny Llama."""
    return LlamaForCausalLM(LlamaConfig(vocab_size=64, **SIZES))


with tempfile.TemporaryDirectory() as folder:
    get_peft_model(model(), LoraConfig(r=4, target_modules=["q_proj"])).save_pretrained(folder)
    frozen = PeftModel.from_pretrained(model(), folder)  # is_trainable=False
assert not any(parameter.requires_grad for parameter in frozen.parameters()), "it was loaded trainable"
with frozen.disable_adapter():
    pass
thawed = sum(parameter.requires_grad for parameter in frozen.parameters())
assert thawed == 0, f"{thawed} tensors of the frozen adapter are trainable after disable_adapter()"
