"""A frozen adapter stays frozen when a second one is loaded beside it for training."""

import tempfile

from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def model():
    """A tiny Llama."""
    return LlamaForCausalLM(LlamaConfig(vocab_size=64, **SIZES))


with tempfile.TemporaryDirectory() as folder:
    get_peft_model(model(), LoraConfig(r=4, target_modules=["q_proj"])).save_pretrained(folder)
    both = PeftModel.from_pretrained(model(), folder, adapter_name="reference")  # is_trainable=False
    both.load_adapter(folder, adapter_name="policy", is_trainable=True)
trainable = [name for name, parameter in both.named_parameters() if parameter.requires_grad]
assert not [name for name in trainable if "reference" in name], "the frozen reference adapter is trainable"
