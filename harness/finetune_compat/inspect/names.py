"""Parse the name of a saved tensor: its module, and its part in the adapter.

PEFT saves `base_model.model.<module>.lora_A.weight`. It removes the adapter's name (`default`) when saving and inserts
it when loading. Weights saved whole keep the name of their module, with `base_layer` after it inside a LoRA layer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

PREFIX = "base_model.model."
"""Prefix that PEFT adds to the name of a module of the base model."""

WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Parts that DistributedDataParallel, torch.compile, FSDP and activation checkpointing add to module names."""

EMBEDDINGS = frozenset({"embed_tokens", "wte", "word_embeddings", "embed_in", "shared", "tok_embeddings"})
OUTPUTS = frozenset({"lm_head", "embed_out", "output_layer"})
"""Output layers of language models, which a model may tie to its input embeddings."""
HEADS = OUTPUTS | {"score", "classifier", "qa_outputs", "v_head"}


class Part(StrEnum):
    """Class of a tensor: its role in an adapter."""

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
    """Rows of an embedding that are trained separately (`trainable_token_indices`)."""
    OTHER = "other"


FACTORS = frozenset({Part.LORA_A, Part.LORA_B, Part.EMBEDDING_A, Part.EMBEDDING_B})
"""The two factors of a low-rank update, of a linear layer and of an embedding."""

WHOLE = frozenset({Part.EMBEDDING, Part.HEAD, Part.NORM, Part.BIAS, Part.OTHER})
"""Parts that are saved whole, as in the base model, in addition to the low-rank updates."""

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
    """The parsed name of a tensor."""

    module: str
    """Module of the base model, without the parts of PEFT and wrappers: `model.layers.0.self_attn.q_proj`."""
    part: Part
    suffix: str
    """The last part of the tensor's name, or the `lora_` part; the name of the class where `part` is OTHER."""
    foreign: str
    """A wrapper's or the adapter's name, which PEFT neither writes nor expects; empty where there is none."""
    prefixed: bool
    """Whether the name begins with `PREFIX`, after wrappers are removed."""

    @property
    def class_name(self) -> str:
        """Name of the tensor's class in a report."""
        return self.suffix if self.part is Part.OTHER else self.part.value

    @property
    def lora(self) -> bool:
        """Whether the tensor belongs to a low-rank update, rather than being saved whole."""
        return self.suffix.startswith("lora_")


def parse(name: str) -> Name:
    """Parse `name`."""
    steps = name.split(".")
    wrappers = [index for index in range(len(steps)) if _wraps(steps, index)]
    wrapper = steps[wrappers[0]] if wrappers else ""
    without = set(wrappers)
    unwrapped = ".".join(step for index, step in enumerate(steps) if index not in without)
    prefixed, bare = unwrapped.startswith(PREFIX), unwrapped.removeprefix(PREFIX)
    found = _LORA.fullmatch(bare)
    if found is None:
        return Name(*_whole(bare), wrapper, prefixed)
    rest = found["rest"] or ""
    part = _PARTS.get(found["part"], Part.OTHER)
    # Tensors of LoRA variants have further name parts, which are not an adapter's name.
    adapter = "" if part is Part.OTHER else rest.removesuffix("weight").removesuffix("bias").removesuffix(".")
    if part is Part.LORA_B and rest.endswith("bias"):
        part = Part.LORA_BIAS
    return Name(found["module"], part, found["part"], wrapper or adapter, prefixed)


def _wraps(steps: list[str], index: int) -> bool:
    """Whether the part at `index` belongs to a wrapper. Only the outermost `module` does: a model may have its own."""
    if steps[index] not in WRAPPERS:
        return False
    outermost = index == 0 or ".".join(steps[:index]) + "." == PREFIX
    return steps[index] != "module" or outermost


def _whole(bare: str) -> tuple[str, Part, str]:
    """Module, part and suffix of a tensor that is not a low-rank factor."""
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
    """`modules`, with those that differ only in their first number joined: `model.layers.0-27.mlp.up_proj`."""
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
