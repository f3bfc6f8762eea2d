"""Configurations of a project in YAML or JSON, as values."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path as File

from finetune_compat.audit.values import Const, Items, Table, Value
from finetune_compat.machine.foreign import read_text

LARGEST_FILE = 200_000
"""Bytes of a configuration."""


STEPS_OF_A_FILE = 100
"""How many statements reading one counts as. A script may read the same file in each of 10,000 lines."""


def value_of_file(file: File) -> Value:
    """The content of a file; a table of which nothing is known if the file cannot be read."""
    try:
        return value_of_text(read_text(file, LARGEST_FILE))
    except (OSError, ValueError):
        return Table({}, open=True)


def value_of_text(text: str) -> Value:
    """The content of YAML or JSON; a table of which nothing is known if it is neither."""
    return _as_value(_parsed(text))


@lru_cache(maxsize=64)
def _parsed(text: str) -> object:
    """JSON is YAML too."""
    import yaml

    try:
        return yaml.safe_load(text) if not _ALIASES.search(text) else None
    except (ValueError, RecursionError, yaml.YAMLError):
        return None


_ALIASES = re.compile(r"^[^#\n]*[:\-]\s+[&*]\w", re.MULTILINE)
"""Anchors and aliases: a small file with them may have a large content."""


def _as_value(content: object) -> Value:
    if isinstance(content, dict):
        return Table({key: _as_value(value) for key, value in content.items()})
    if isinstance(content, list):
        return Items([_as_value(value) for value in content])
    return Table({}, open=True) if content is None else Const(content)
