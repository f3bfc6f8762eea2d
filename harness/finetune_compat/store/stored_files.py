"""The files of a store: one per observation, written atomically. Standard library only, because both sides write them.

    objects/<2 hex>/<address>.<12 hex of the content's sha256>.json

A name has the address and a digest of the content, so files of equal names are equal. Two stores are merged by the
union of their files. Files are never changed in place.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_compat.contract.recipe import SCRIPT, Recipe, contradiction, from_dict, to_dict
from finetune_compat.machine.files import write_atomically

FORMAT = 1
"""Version of the file format."""

HIGHEST = 10**9
"""Highest counter of an observation."""

OBJECTS = "objects"

_NAME = re.compile(r"([0-9a-f]{64})\.([0-9a-f]{12})\.json")


class Damaged(Exception):
    """A file of the store does not match its name, or cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One cached observation."""

    recipe: Recipe
    line: str
    """The observation as a line of `observations.jsonl`, without the line end."""
    counter: int = 0
    """Of several observations of one address the one with the highest counter counts. A clock may have been wrong, so
    the time decides only between equal counters: of two machines, and of files of an older harness, which have 0.
    """
    recorded_at: str
    """UTC, ISO 8601 with microseconds."""
    harness: str
    """Version of the harness that recorded it."""
    outcome: str | None = None
    """The outcome when it was recorded. Only for scheduling: reports judge again."""
    cpu_s: float | None = None
    """CPU seconds of the cell. None: of a script, of a cell on a GPU, or of an older harness. Only for scheduling. It
    is beside the observation because it describes the run, and addresses do not depend on it.
    """

    @property
    def observation(self) -> dict[str, Any]:
        """The observation as parsed JSON."""
        parsed: dict[str, Any] = json.loads(self.line)
        return parsed

    @property
    def duration_s(self) -> float:
        """Seconds of the cell, or of all trainings of a script.

        Raises:
            KeyError, TypeError, ValueError: the observation has none.
        """
        seen = self.observation
        of_script = self.recipe.model == SCRIPT
        return sum(float(run["seen"]["duration_s"]) for run in seen["runs"]) if of_script else float(seen["duration_s"])

    @property
    def content(self) -> bytes:
        """The file: a JSON object whose second line is the observation, byte for byte."""
        head = {
            "format": FORMAT,
            **({"counter": self.counter} if self.counter else {}),
            **({"cpu_s": self.cpu_s} if self.cpu_s is not None else {}),
            "recorded_at": self.recorded_at,
            "harness": self.harness,
            "outcome": self.outcome,
            "recipe": to_dict(self.recipe),
        }
        opened = json.dumps(head, separators=(",", ":"))[:-1]
        return f'{opened},"observation":\n{self.line}\n}}\n'.encode()


def name_of(stored: Stored) -> str:
    """The name of the file of `stored`."""
    return f"{stored.recipe.address}.{_digest(stored.content)}.json"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def is_name(name: str) -> bool:
    """Whether `name` is a valid name of a file in a store."""
    return _NAME.fullmatch(name) is not None


def address_of(name: str) -> str:
    """The address in the file name `name`."""
    return name.partition(".")[0]


def path_of(root: Path, name: str) -> Path:
    """The path of the file `name` in the store at `root`."""
    return root / OBJECTS / name[:2] / name


def parsed(name: str, content: bytes) -> Stored:
    """The observation in `content`, the content of the file called `name`.

    Raises:
        Damaged: the content does not match the name, or is not a cached observation.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise Damaged("its name is not valid")
    if _digest(content) != match[2]:
        raise Damaged("its content does not match the digest in its name")
    try:
        head, line, tail = content.decode("utf-8").split("\n", 2)
        stored = _stored(json.loads(f"{head}null}}"), line)
        address = stored.recipe.address
        # Whoever wrote the file calculated its digest too. Only the observation says what was observed.
        other = contradiction(stored.recipe, stored.observation)
        _ = stored.duration_s
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(f"it is not a cached observation: {type(error).__name__}: {error}") from None
    if tail != "}\n" or address != match[1]:
        raise Damaged("its recipe does not match the address in its name")
    if other:
        raise Damaged(f"the observation is not of its recipe: {other}")
    return stored


def _stored(head: Mapping[str, Any], line: str) -> Stored:
    if head["format"] != FORMAT:
        raise ValueError(f"format {head['format']!r}, this harness reads {FORMAT}")
    counter = head.get("counter", 0)
    if type(counter) is not int or not 0 <= counter <= HIGHEST:
        raise ValueError(f"counter {counter!r}")
    cpu_s = head.get("cpu_s")
    if cpu_s is not None and (type(cpu_s) not in (int, float) or not 0 <= cpu_s < math.inf):
        raise ValueError(f"cpu_s {cpu_s!r}")
    return Stored(
        recipe=from_dict(head["recipe"]),
        line=line,
        counter=counter,
        recorded_at=str(head["recorded_at"]),
        harness=str(head["harness"]),
        outcome=None if head["outcome"] is None else str(head["outcome"]),
        cpu_s=cpu_s,
    )


def order(each: tuple[str, Stored]) -> tuple[int, str, str]:
    """Sort key of name and observation, of several of one address: the last counts. The same on every machine."""
    name, stored = each
    return stored.counter, stored.recorded_at, name


def next_counter(root: Path, address: str) -> int:
    """The counter of the next observation of `address` in the store at `root`."""
    counters = [0]
    for name in names(root, [address]).get(address, ()):
        with contextlib.suppress(Damaged):
            counters.append(read(root, name).counter)
    return min(max(counters) + 1, HIGHEST)


def read(root: Path, name: str) -> Stored:
    """The observation in the file `name` of the store at `root`.

    Raises:
        Damaged: the file does not match its name, or cannot be read.
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
    write_content(root, name, stored.content, durable=True)
    return name


def write_content(root: Path, name: str, content: bytes, *, durable: bool = False) -> None:
    """Write the file `name` atomically. Processes that write the same name in parallel write the same content.

    With `durable` the file survives a power failure. A copy needs not: its digest shows the damage.
    """
    write_atomically(path_of(root, name), content, durable=durable)


def names(root: Path, addresses: Iterable[str] | None = None) -> dict[str, list[str]]:
    """Names of the files at `root` by address; only of `addresses` if given. Each folder is listed once."""
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
    """Whether the store at `root` has any folder of files."""
    return bool(_folders(root))


def _folders(root: Path) -> list[str]:
    try:
        return sorted(os.listdir(root / OBJECTS))  # noqa: PTH208 - as above
    except FileNotFoundError:
        return []
