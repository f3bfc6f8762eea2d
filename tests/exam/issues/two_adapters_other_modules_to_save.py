"""Two adapters with different modules_to_save are loaded into one model and saved again."""

import tempfile

from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def model():
    """A tiny Llama."""
    return LlamaForCausalLM(LlamaConfig(vocab_size=64, tie_word_embeddings=False, **SIZES))


with tempfile.TemporaryDirectory() as folder:
    for name, saved in (("first", "lm_head"), ("second", "norm")):
        config = LoraConfig(target_modules=["q_proj"], modules_to_save=[saved])
        get_peft_model(model(), config).save_pretrained(f"{folder}/{name}")
    both = PeftModel.from_pretrained(model(), f"{folder}/first", adapter_name="first")
    both.load_adapter(f"{folder}/second", adapter_name="second")
    both.save_pretrained(f"{folder}/both")
