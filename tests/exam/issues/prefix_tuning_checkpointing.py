"""Prefix tuning with gradient checkpointing: the loss is that without it, or PEFT refuses."""

import torch
from peft import PrefixTuningConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
tokens = torch.arange(8)[None]
losses = []
for checkpointing in (False, True):
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=64, **SIZES))
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    try:
        model = get_peft_model(model, PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4))
    except ValueError as refusal:
        print(f"refused: {refusal}")
        raise SystemExit from None
    model.train()
    losses.append(model(input_ids=tokens, labels=tokens).loss.item())
assert losses[0] == losses[1], f"the loss is {losses[0]:.4f}, and with gradient checkpointing {losses[1]:.4f}"
