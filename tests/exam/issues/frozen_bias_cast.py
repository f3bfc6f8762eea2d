"""The frozen bias of a 4-bit layer is what it was after a forward pass."""

import torch
from bitsandbytes.nn import Linear4bit, Params4bit
from torch import nn

torch.manual_seed(0)
plain = nn.Linear(64, 64)
layer = Linear4bit(64, 64, bias=True, compute_dtype=torch.bfloat16, quant_type="nf4")
layer.weight = Params4bit(plain.weight.data, requires_grad=False, quant_type="nf4")
layer.bias = nn.Parameter(plain.bias.data, requires_grad=False)
layer = layer.to("cpu")
before = layer.bias.detach().clone()
layer(torch.ones(1, 64))
same = layer.bias.dtype == before.dtype and torch.equal(layer.bias, before)
assert same, f"the bias was {before.dtype} and is {layer.bias.dtype}: it is rounded for good"
