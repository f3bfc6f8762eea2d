"""A model saved in bfloat16 is loaded as from_pretrained does by default, and fine-tuned in full at a usual rate."""

import tempfile

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
torch.manual_seed(0)
with tempfile.TemporaryDirectory() as folder:
    LlamaForCausalLM(LlamaConfig(vocab_size=64, **SIZES)).to(torch.bfloat16).save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
before = {name: value.detach().clone() for name, value in model.named_parameters()}
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, weight_decay=0.0)
tokens = torch.arange(64)[None]
for _ in range(3):
    optimizer.zero_grad()
    model(input_ids=tokens, labels=tokens).loss.backward()
    optimizer.step()
same = sum(int((value == before[name]).sum()) for name, value in model.named_parameters())
total = sum(value.numel() for value in model.parameters())
assert same < total / 2, (
    f"updates are rounded away: after three steps {same / total:.0%} of the weights are what they were"
)
