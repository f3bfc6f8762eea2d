"""Packages of the platform layer, which a side cannot choose: torch and what each of its builds brings."""

from __future__ import annotations

import re

from packaging.utils import canonicalize_name

from finetune_compat.gate.left_out import hides, left_out
from finetune_compat.stacks.locks import is_platform

OF_A_BUILD = ("torchvision", "torchaudio")
"""Libraries of which each wheel belongs to one version and build of torch."""
TORCH = ("torch", *OF_A_BUILD)
"""The platform layer: the matrix sets its version, the machine sets its build."""


def is_of_platform(name: str) -> bool:
    """Whether the package `name` is of the platform layer."""
    return canonicalize_name(name) in TORCH or is_platform(canonicalize_name(name)) or name == "pytorch-triton"


def platform_note(text: str) -> str:
    """The note for a package of the platform layer. `text` begins with its name."""
    stated = canonicalize_name(re.split(r"[^\w.-]", text, maxsplit=1)[0])
    if stated in OF_A_BUILD:
        return left_out(text, "it belongs to one version and build of torch, and both are the machine's")
    return (
        f"{text}: torch is the platform layer; its version is the matrix's, its build the machine's; {hides('torch')}"
    )


def is_torch(word: str) -> bool:
    """Whether a value, such as `torch==2.8.0`, names a package of the platform layer."""
    return is_of_platform(re.split(r"[^\w.-]", word, maxsplit=1)[0])
