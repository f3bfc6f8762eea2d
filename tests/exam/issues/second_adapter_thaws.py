"""A frozen adapter stays frozen when a second one is loaded beside it, frozen too."""

import tempfile

from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def model():
    """A tiny Llama."""
    return LlamaForCausalLM(LlamaConfig(vocab_size=64, tie_word_embeddings=False, **SIZES))


with tempfile.TemporaryDirectory() as folder:
    config = LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["lm_head"])
    get_peft_model(model(), config).save_pretrained(folder)
    frozen = PeftModel.from_pretrained(model(), folder)  # is_trainable=False
    frozen.load_adapter(folder, adapter_name="second")  # is_trainable=False
thawed = [name for name, parameter in frozen.named_parameters() if parameter.requires_grad]
assert not thawed, f"frozen adapters are trainable: {len(thawed)} tensors"
