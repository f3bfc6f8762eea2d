"""What the name of a saved tensor says: the module it belongs to, and what part of an adapter it is.

PEFT saves `base_model.model.<module>.lora_A.weight`; the adapter's own name (`default`) is taken out when saving and
put back when loading. Weights saved whole keep their module's name, inside a LoRA layer with `base_layer` before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

PREFIX = "base_model.model."
"""What PEFT puts before the name of a module of the base model."""

WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""What DistributedDataParallel, torch.compile, FSDP and activation checkpointing put into the names of modules."""

EMBEDDINGS = frozenset({"embed_tokens", "wte", "word_embeddings", "embed_in", "shared", "tok_embeddings"})
OUTPUTS = frozenset({"lm_head", "embed_out", "output_layer"})
"""Output layers of language models, which a model may tie to its input embeddings."""
HEADS = OUTPUTS | {"score", "classifier", "qa_outputs", "v_head"}


class Part(StrEnum):
    """Class of a tensor: what it does in an adapter."""

    LORA_A = "lora_A"
    LORA_B = "lora_B"
    EMBEDDING_A = "lora_embedding_A"
    EMBEDDING_B = "lora_embedding_B"
    MAGNITUDE = "magnitude"
    """DoRA's length of each column of a weight."""
    LORA_BIAS = "lora_B bias"
    EMBEDDING = "embedding"
    HEAD = "head"
    NORM = "norm"
    BIAS = "bias"
    TOKENS = "token rows"
    """Rows of an embedding that are trained alone (`trainable_token_indices`)."""
    OTHER = "other"


FACTORS = frozenset({Part.LORA_A, Part.LORA_B, Part.EMBEDDING_A, Part.EMBEDDING_B})
"""The two factors of a low-rank update, of a linear layer and of an embedding."""

WHOLE = frozenset({Part.EMBEDDING, Part.HEAD, Part.NORM, Part.BIAS, Part.OTHER})
"""Tensors saved as they stand in the base model, beside the low-rank updates."""

_LORA = re.compile(r"(?P<module>.+?)\.(?P<part>lora_[A-Za-z_]+)(\.(?P<rest>.+))?")
_PARTS = {
    "lora_A": Part.LORA_A,
    "lora_B": Part.LORA_B,
    "lora_embedding_A": Part.EMBEDDING_A,
    "lora_embedding_B": Part.EMBEDDING_B,
    "lora_magnitude_vector": Part.MAGNITUDE,
}


@dataclass(frozen=True, slots=True)
class Name:
    """The name of a tensor, taken apart."""

    module: str
    """The base model's module, such as `model.layers.0.self_attn.q_proj`, without anything PEFT or a wrapper adds."""
    part: Part
    suffix: str
    """The class's name where `part` is OTHER: the last part of the tensor's name."""
    foreign: str
    """What PEFT does not write and does not look for: a wrapper's or the adapter's name; empty where there is none."""
    prefixed: bool
    """Whether it begins as PEFT's names do."""

    @property
    def class_name(self) -> str:
        """Name of its class in a report."""
        return self.suffix if self.part is Part.OTHER else self.part.value

    @property
    def lora(self) -> bool:
        """Whether it belongs to a low-rank update rather than being a weight saved whole."""
        return self.suffix.startswith("lora_")


def parse(name: str) -> Name:
    """Take `name` apart."""
    steps = name.split(".")
    wrappers = [index for index in range(len(steps)) if _wraps(steps, index)]
    wrapper = steps[wrappers[0]] if wrappers else ""
    unwrapped = ".".join(step for index, step in enumerate(steps) if index not in wrappers)
    prefixed, bare = unwrapped.startswith(PREFIX), unwrapped.removeprefix(PREFIX)
    found = _LORA.fullmatch(bare)
    if found is None:
        return Name(*_whole(bare), wrapper, prefixed)
    rest = found["rest"] or ""
    part = _PARTS.get(found["part"], Part.OTHER)
    # Parts that variants of LoRA add have parts of their own.
    adapter = "" if part is Part.OTHER else rest.removesuffix("weight").removesuffix("bias").removesuffix(".")
    if part is Part.LORA_B and rest.endswith("bias"):
        part = Part.LORA_BIAS
    return Name(found["module"], part, found["part"], wrapper or adapter, prefixed)


def _wraps(steps: list[str], index: int) -> bool:
    """Whether the step at `index` is a wrapper's. A model may have a part called `module` further in."""
    outermost = index == 0 or ".".join(steps[:index]) + "." == PREFIX
    return steps[index] in WRAPPERS and (steps[index] != "module" or outermost)


def _whole(bare: str) -> tuple[str, Part, str]:
    """Module, part and suffix of a tensor that is no low-rank factor."""
    if ".token_adapter." in bare:
        return bare.partition(".token_adapter.")[0], Part.TOKENS, "trainable_tokens"
    module, _, last = bare.rpartition(".")
    module = module.removesuffix(".base_layer").removesuffix(".original_module")
    module = re.sub(r"\.modules_to_save(\.[^.]+)?$", "", module)
    leaf = module.rpartition(".")[2]
    if leaf in EMBEDDINGS:
        part = Part.EMBEDDING
    elif leaf in HEADS:
        part = Part.HEAD
    elif "norm" in leaf.lower() or re.fullmatch(r"ln_?\w*", leaf):
        part = Part.NORM
    else:
        part = Part.BIAS if last == "bias" else Part.OTHER
    return module, part, last


def places(modules: Iterable[str]) -> tuple[str, ...]:
    """`modules` with those that differ in their first number alone written as one: `model.layers.0-27.mlp.up_proj`."""
    numbers: dict[tuple[str, str], list[int]] = {}
    for module in dict.fromkeys(modules):
        before, number, after = _around_number(module)
        numbers.setdefault((before, after), []).extend([] if number is None else [number])
    return tuple(f"{before}{_ranges(found)}{after}" for (before, after), found in numbers.items())


def _around_number(module: str) -> tuple[str, int | None, str]:
    found = re.search(r"(?<![^.])\d+(?![^.])", module)
    if found is None:
        return module, None, ""
    return module[: found.start()], int(found[0]), module[found.end() :]


def _ranges(numbers: Iterable[int]) -> str:
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)
