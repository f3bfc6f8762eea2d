"""Trained copies of modules whose names begin alike are what they were after a reload."""

import tempfile

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

HEADS = [name for letter in "abcdef" for name in (f"head_{letter}", f"head_{letter}2")]


class Model(nn.Module):
    """A linear layer, and heads such as head_a and head_a2."""

    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(4, 4)
        for name in HEADS:
            setattr(self, name, nn.Linear(4, 2))

    def forward(self, x):
        return torch.cat([getattr(self, name)(self.lin(x)) for name in HEADS])


torch.manual_seed(0)
base = Model()
weights = {name: value.clone() for name, value in base.state_dict().items()}
model = get_peft_model(base, LoraConfig(target_modules=["lin"], modules_to_save=HEADS, init_lora_weights=False))
with torch.no_grad():
    for parameter in model.parameters():
        parameter += parameter.requires_grad  # what training would change
    x = torch.ones(1, 4)
    trained = model.eval()(x)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        fresh = Model()
        fresh.load_state_dict(weights)
        loaded = PeftModel.from_pretrained(fresh, folder).eval()(x)
assert torch.allclose(trained, loaded), "a reload does not give what was trained"
