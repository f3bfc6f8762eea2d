"""The files of a store: one per observation, whole or not there. Standard library only: both sides write them.

    objects/<2 hex>/<address>.<12 hex of the content's sha256>.json

A name says what the file answers and what it holds, so that two stores are merged by the union of their files: equal
names are equal files. Nothing is ever changed in place.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_compat.contract.recipe import Recipe, from_dict, to_dict
from finetune_compat.machine.files import write_atomically

FORMAT = 1
"""Version of the file's own layout."""

OBJECTS = "objects"

_NAME = re.compile(r"([0-9a-f]{64})\.([0-9a-f]{12})\.json")


class Damaged(Exception):
    """A file of the store is not what its name says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One kept observation."""

    recipe: Recipe
    line: str
    """The observation as a line of `observations.jsonl`, without its end."""
    recorded_at: str
    """UTC, ISO 8601 with microseconds. Of several observations of one address the latest is the answer."""
    harness: str
    """Version of the harness that recorded it."""
    outcome: str | None = None
    """How it was judged then. For schedulers alone: reports judge again."""

    @property
    def observation(self) -> dict[str, Any]:
        """The observation as parsed JSON."""
        parsed: dict[str, Any] = json.loads(self.line)
        return parsed

    @property
    def content(self) -> bytes:
        """The file: a JSON object whose second line is the observation, byte for byte."""
        head = {
            "format": FORMAT,
            "recorded_at": self.recorded_at,
            "harness": self.harness,
            "outcome": self.outcome,
            "recipe": to_dict(self.recipe),
        }
        opened = json.dumps(head, separators=(",", ":"))[:-1]
        return f'{opened},"observation":\n{self.line}\n}}\n'.encode()


def name_of(stored: Stored) -> str:
    """The name of its file."""
    return f"{stored.recipe.address}.{_digest(stored.content)}.json"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def is_name(name: str) -> bool:
    """Whether a file called `name` can be one of a store's."""
    return _NAME.fullmatch(name) is not None


def address_of(name: str) -> str:
    """The address that the file called `name` answers."""
    return name.partition(".")[0]


def path_of(root: Path, name: str) -> Path:
    """Where the object called `name` is in the store at `root`."""
    return root / OBJECTS / name[:2] / name


def parsed(name: str, content: bytes) -> Stored:
    """What `content`, of the file called `name`, holds.

    Raises:
        Damaged: it is not what its name says, or not a kept observation.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise Damaged("its name is not that of an object")
    if _digest(content) != match[2]:
        raise Damaged("its content is not what its name says")
    try:
        head, line, tail = content.decode("utf-8").split("\n", 2)
        stored = _stored(json.loads(f"{head}null}}"), line)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"it is not a kept observation: {error}") from None
    if tail != "}\n" or stored.recipe.address != match[1]:
        raise Damaged("its recipe is not that of its address")
    return stored


def _stored(head: Mapping[str, Any], line: str) -> Stored:
    if head["format"] != FORMAT:
        raise ValueError(f"format {head['format']!r}, this harness reads {FORMAT}")
    return Stored(
        recipe=from_dict(head["recipe"]),
        line=line,
        recorded_at=str(head["recorded_at"]),
        harness=str(head["harness"]),
        outcome=head["outcome"],
    )


def read(root: Path, name: str) -> Stored:
    """The object called `name` of the store at `root`.

    Raises:
        Damaged: it is not what its name says, or cannot be read.
    """
    try:
        content = path_of(root, name).read_bytes()
    except OSError as error:
        raise Damaged(f"it cannot be read: {error.strerror}") from None
    return parsed(name, content)


def write(root: Path, stored: Stored) -> str:
    """Add `stored` to the store at `root`, atomically, and return its name.

    Raises:
        OSError: the store cannot be written to.
    """
    name = name_of(stored)
    write_content(root, name, stored.content)
    return name


def write_content(root: Path, name: str, content: bytes) -> None:
    """Add the file `name`, whole or not at all. Who writes the same name at the same time writes the same content."""
    write_atomically(path_of(root, name), content)


def names(root: Path, addresses: Iterable[str] | None = None) -> dict[str, list[str]]:
    """Names of the objects at `root` by address; of `addresses` only, if any are given. One look at each folder."""
    wanted = None if addresses is None else frozenset(addresses)
    folders = _folders(root) if wanted is None else sorted({address[:2] for address in wanted})
    found: dict[str, list[str]] = defaultdict(list)
    for folder in folders:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            for name in os.listdir(root / OBJECTS / folder):  # noqa: PTH208 - names alone; a Path for each costs more
                address = name[:64]
                if (wanted is None or address in wanted) and is_name(name):
                    found[address].append(name)
    return dict(found)


def any_there(root: Path) -> bool:
    """Whether there is any folder of objects at `root`."""
    return bool(_folders(root))


def _folders(root: Path) -> list[str]:
    try:
        return sorted(os.listdir(root / OBJECTS))  # noqa: PTH208 - as above
    except FileNotFoundError:
        return []
