"""Limits of a config from elsewhere: what it may make a stack build, and where it may make a stack look for code."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from finetune_compat.contract.errors import CompatError

MOST_MODULES = 2_000
"""Most layers or experts. The largest models have 126 layers and 512 experts; building a layer takes 5 ms."""

_COUNTS = re.compile(r"(?:n_|num_)?(?:\w+_)?(?:layers?|experts|blocks|depth)|n_layer|depths")
_CODE = re.compile(r"\w*_implementation(?:_internal)?")


def check_config(raw: Mapping[str, Any], file: Path) -> None:
    """Check that a stack can build the model of a config within limits, and runs no code of a repository for it.

    Raises:
        CompatError: the config has too many layers or experts, or names code of a repository.
    """
    for key, value in _pairs(raw):
        name = key.rpartition(".")[2]
        if _COUNTS.fullmatch(name) and isinstance(value, int) and value > MOST_MODULES:
            raise CompatError(
                f"{key} is {_short(value)}, and at most {MOST_MODULES:,} are counted",
                where=str(file),
                meaning="A census builds every layer and expert. No known model has as many.",
                todo="Correct the number.",
            )
        if _CODE.fullmatch(name) and isinstance(value, str) and "/" in value:
            raise CompatError(
                f"{key} names code of a repository: {value!r}",
                where=str(file),
                meaning="Transformers would download and run it. Parameters are counted without it.",
                todo="Remove this line.",
            )


def _pairs(raw: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Every key and value at any depth; keys with those around them (`text_config.num_hidden_layers`)."""
    for key, value in raw.items():
        if isinstance(value, Mapping):
            yield from _pairs(value, f"{before}{key}.")
        elif isinstance(value, list):
            yield from ((f"{before}{key}", item) for item in value)
        else:
            yield f"{before}{key}", value


def _short(number: int) -> str:
    return f"{number:,}" if number < 10**15 else "larger than 10^15"
