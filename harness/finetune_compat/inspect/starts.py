"""The values that the tensors of each PEFT method have before the first step. Facts, no opinion.

Measured on fresh adapters of PEFT 0.17.1 and 0.21.2 (`tests/adapters`). A method is left out if its fresh tensors are
random or copies of the base's weights: then the file does not show whether they were trained. LoRA is in `layers`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from finetune_compat.inspect.weights import Tensor


@dataclass(frozen=True, slots=True)
class Start:
    """The initial values of one PEFT method, under some of its options."""

    values: Mapping[str, float]
    """By the name of the tensor inside its module (`ia3_l`, `psoft_R.weight`)."""
    options: Mapping[str, tuple[Any, ...]] = field(default_factory=lambda: {"init_weights": (True,)})
    """The values of options for which it holds. PEFT saves every option that it knows."""

    def holds(self, config: Mapping[str, Any]) -> bool:
        """Whether `config`, a raw configuration, has these options."""
        return all(config[option] in values for option, values in self.options.items() if option in config)


_STARTS: dict[str, tuple[Start, ...]] = {
    "ADALORA": (Start({"lora_E": 0}, {"init_lora_weights": (True,)}),),
    "BEFT": (Start({"beft_bias": 0}),),
    "BOFT": (Start({"boft_R": 0, "boft_s": 1}),),
    "BONE": (Start({"bone_block": 0}, {"init_weights": (True, "bat")}),),
    "C3A": (Start({"c3a_kernel": 0}),),
    "DELORA": (Start({"delora_B": 0}),),
    "FOURIERFT": (Start({"fourierft_spectrum": 0}),),
    "FROD": (Start({"frod_lambda_s_values": 0}),),
    "GLORA": (Start({"Xd": 0, "X": 0}),),
    "GRALORA": (Start({"gralora_B": 0, "gralora_B_general": 0}),),
    "HIRA": (Start({"hira_B": 0, "hira_embedding_A": 0}, {"init_weights": (True, "gaussian")}),),
    "IA3": (Start({"ia3_l": 1}, {"init_ia3_weights": (True,)}),),
    "LILY": (Start({"lily_B": 0}),),
    "LOHA": (Start({"hada_w2_b": 0}),),
    "LOKR": (
        Start({"lokr_w1": 0, "lokr_w1_a": 0}),
        Start({"lokr_w2": 0, "lokr_w2_b": 0}, {"init_weights": ("lycoris",)}),
    ),
    "MISS": (Start({"miss_block": 0}, {"init_weights": (True, "bat", "mini")}),),
    "OFT": (Start({"oft_R": 0, "oft_embedding_R": 0}),),
    "PEANUT": (Start({"peanut_B": 0}),),
    "POLY": (Start({"poly_lora_B": 0}),),
    "PSOFT": (
        Start(
            {"psoft_R.weight": 0, "psoft_R.vector_a": 1, "psoft_R.vector_b": 1},
            {"init_weights": (True,), "psoft_orth": (True,)},
        ),
    ),
    "PVERA": (Start({"pvera_lambda_b": 0}),),
    "RANDLORA": (Start({"randlora_lambda": 0}),),
    "ROAD": (Start({"road_theta": 0, "road_alpha": 1}),),
    "SHADOW": (Start({"shadow_up": 0}),),
    "SHIRA": (Start({"shira_weight": 0}),),
    "SUPERTUNING": (Start({"supertuning_values": 0, "supertuning_lora_B": 0}),),
    "TINYLORA": (Start({"tinylora_v": 0}),),
    "VERA": (Start({"vera_lambda_b": 0}),),
    "WAVEFT": (Start({"waveft_spectrum": 0}),),
}
"""By the `peft_type`."""


def initial_values(config: Mapping[str, Any]) -> Mapping[str, float]:
    """The initial values of the method and options of a raw configuration; empty if they are not fixed."""
    return next((start.values for start in _STARTS.get(config["peft_type"], ()) if start.holds(config)), {})


def with_initial_value(tensors: Sequence[Tensor], values: Mapping[str, float]) -> dict[str, bool]:
    """Whether each tensor that `values` names has its initial value, by the tensor's name."""
    named = {tensor.name: (tensor, _of(tensor.name, values)) for tensor in tensors}
    return {name: tensor.constant == value for name, (tensor, value) in named.items() if value is not None}


def _of(name: str, values: Mapping[str, float]) -> float | None:
    return next((value for part, value in values.items() if f".{part}." in f".{name}."), None)
