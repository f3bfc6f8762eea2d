"""layers_to_transform names layers of the model. Here each layer has a list of experts too, as in code from the hub."""

import re

from peft import LoraConfig, get_peft_model
from torch import nn


class Layer(nn.Module):
    """Two experts of one linear layer each."""

    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList(nn.ModuleDict({"up_proj": nn.Linear(8, 8)}) for _ in range(2))


class Model(nn.Module):
    """Three layers."""

    def __init__(self):
        super().__init__()
        self.model = nn.ModuleDict({"layers": nn.ModuleList(Layer() for _ in range(3))})


model = get_peft_model(Model(), LoraConfig(r=2, target_modules=["up_proj"], layers_to_transform=[1]))
names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
layers = {re.search(r"layers\.(\d+)\.", name).group(1) for name in names}
assert layers == {"1"}, f"layer 1 was asked for, and adapters are in layers {', '.join(sorted(layers))}"
