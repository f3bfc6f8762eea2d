"""What cannot be installed here, and what its absence could hide."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_HIDES = {
    "torch": "a fault of another torch or of CUDA is not seen",
    "torchvision": "a package or script that imports it fails on both sides, such as qwen-vl-utils",
    "torchaudio": "a package or script that imports it fails on both sides",
    "flash-attn": "faults of attn_implementation='flash_attention_2' and of padding-free batches are not seen",
    "deepspeed": "training runs without ZeRO: faults of sharded weights, optimizers and checkpoints are not seen",
    "vllm": "generation runs without vLLM: faults of its weights during online training are not seen",
    "liger-kernel": "training runs without its kernels: faults of its losses are not seen",
    "unsloth": "it replaces parts of TRL and PEFT: what is measured here is not the training it runs",
    "unsloth-zoo": "it replaces parts of TRL and PEFT: what is measured here is not the training it runs",
    "xformers": "attention runs without its kernels: faults of them are not seen",
    "apex": "optimizers and norms run without its kernels: faults of them are not seen",
}
_ANY = "a fault that needs it is not seen, and a script that imports it fails on both sides"


def hides(name: str) -> str:
    """What the absence of a package could hide. `name` is canonical."""
    return _HIDES.get(name, _ANY)


def left_out(package: str, reason: str) -> str:
    """The note for a package that is not installed. `package` begins with its canonical name."""
    name = package.partition(" ")[0].partition("=")[0].partition("[")[0].rstrip("<>!~")
    return f"{package}: left out, {reason}; {hides(name)}"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A package of the project that cannot be installed here."""

    name: str
    """Canonical."""
    reason: str
    source: str = ""
    """A requirement whose wheel may be built from source; empty if that does not help."""


_NAME = r"(?P<name>[a-z0-9][a-z0-9.-]*?)(?:\[[^\]]*\])?"
_RANGE = r"(?P<range>(?:[=<>!~][^\s]*)?)"
_NO_WHEEL = re.compile(rf"(?:^|\s){_NAME}{_RANGE} has no usable wheels")
_OTHERS = (
    (re.compile(rf"(?:^|\s){_NAME}{_RANGE} was not found in the package registry"), "the index has no such package"),
    (re.compile(rf"there is no version of {_NAME}{_RANGE}(?:\s|,|$)"), "the index has no such release"),
    (
        re.compile(rf"(?:^|\s){_NAME}{_RANGE} has no wheels with a matching"),
        "it has no wheel for this Python and platform",
    ),
    (re.compile(rf"(?:^|\s){_NAME}{_RANGE} depends on Python"), "it does not run on this Python"),
)
_OF_TORCH = re.compile(rf"(?:^|\s){_NAME}{_RANGE} depends on torch(?P<torch>[=<>!~]\S*)")


def obstacle(reason: str, others: Sequence[Requirement], torch: str) -> Obstacle | None:
    """The package that makes a project unsolvable, if the cause is the index, the machine or its torch.

    Args:
        reason: the resolver's output.
        others: the packages of the project that may be left out.
        torch: the version of torch here.
    """
    text = " ".join(reason.partition("\nhint:")[0].split())
    names: dict[str, Requirement] = {canonicalize_name(item.name): item for item in others}
    if (found := _NO_WHEEL.search(text)) and (name := _brings(found["name"], text, names)):
        return Obstacle(name, _because(found["name"], name, "has no wheel"), _source(found["name"], text, names))
    for pattern, why in _OTHERS:
        for found in pattern.finditer(text):
            if found["name"] in names:
                return Obstacle(found["name"], why)
    if f"torch=={torch}" in text:
        for found in _OF_TORCH.finditer(text):
            if found["name"] in names:
                return Obstacle(
                    found["name"], f"it needs torch{found['torch'].rstrip(',')}, and torch {torch} runs here"
                )
    return None


def _brings(name: str, text: str, names: dict[str, Requirement]) -> str:
    """The package of the project that is `name` or needs it; empty if none is named."""
    if name in names:
        return name
    return next((other for other in names if re.search(rf"(?:^|\s){re.escape(other)}\S* depends on ", text)), "")


def _because(name: str, of: str, why: str) -> str:
    return f"it {why}" if name == of else f"{name}, which it needs, {why}"


def _source(name: str, text: str, names: dict[str, Requirement]) -> str:
    """The requirement to build: as the project or another package states it."""
    if name in names:
        return f"{name}{names[name].specifier}"
    stated = re.search(rf"depends on {re.escape(name)}((?:[=<>!~][^\s]*)?)", text)
    return f"{name}{stated[1].rstrip(',') if stated else ''}"
