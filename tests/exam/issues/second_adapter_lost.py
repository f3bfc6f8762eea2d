"""A second adapter with target_parameters changes what the model computes. The weights come from a config, no download."""

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(vocab_size=64, **SIZES)).eval()
tokens = torch.arange(8)[None]
with torch.no_grad():
    base = model(input_ids=tokens).logits
try:
    # init_lora_weights=False draws lora_B at random, so that an adapter that is there changes the logits.
    config = LoraConfig(r=4, target_modules=[], target_parameters=["q_proj.weight"], init_lora_weights=False)
    model = get_peft_model(model, config, adapter_name="first")
    model.add_adapter("second", config)
except (TypeError, ValueError) as refusal:
    print(f"refused: {refusal}")  # a release without target_parameters, or with one adapter only, says so
    raise SystemExit from None
model.set_adapter("second")
with torch.no_grad():
    assert not torch.equal(model(input_ids=tokens).logits, base), "the second adapter changes nothing"
