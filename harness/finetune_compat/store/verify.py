"""Verify a store: find damaged files, and addresses whose observations disagree. Host side."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from finetune_compat.contract.errors import RecordsError
from finetune_compat.contract.recipe import SCRIPT
from finetune_compat.results.pipelines import read_pipeline
from finetune_compat.results.run_files import read_line
from finetune_compat.store import stored_files
from finetune_compat.store.stored_files import Damaged, Stored

OF_THE_MACHINE = frozenset(
    {"duration_s", "started_at", "harness_version", "memory", "device", "warnings", "subject_sha256"}
)
"""Fields in which two observations of one recipe may differ: times, versions, memory, CPU and messages, and the digest
of the trained parameters, whose last bits vary.
"""

TOLERANCE = 1e-3
"""Relative difference of numbers that counts as equal. Another CPU or number of threads sums in another order, and ten
training steps enlarge the difference.
"""

SMALLEST = 1e-6
"""Absolute difference of numbers that counts as equal."""


@dataclass(frozen=True, slots=True)
class Found:
    """The result of verifying a store."""

    whole: int
    """Number of valid files."""
    damaged: Mapping[str, str]
    """Reason by file name."""
    disagreements: Mapping[str, tuple[str, ...]]
    """By address: the fields in which two of its observations differ."""
    cells: Mapping[str, str]
    """Cell id by address, for the disagreements."""

    @property
    def sound(self) -> bool:
        """Whether no file is damaged and no observations disagree."""
        return not self.damaged and not self.disagreements


def verify(root: Path) -> Found:
    """Read every file of the store at `root`."""
    whole, damaged = 0, {}
    disagreements: dict[str, tuple[str, ...]] = {}
    cells: dict[str, str] = {}
    for address, names in sorted(stored_files.names(root).items()):
        kept: list[tuple[str, Stored]] = []
        for name in sorted(names):
            try:
                kept.append((name, _checked(root, name)))
            except Damaged as damage:
                damaged[name] = str(damage)
        whole += len(kept)
        pairs = pairwise(each for _, each in sorted(kept, key=stored_files.order))
        fields = {field for one, other in pairs for field in differences(one.observation, other.observation)}
        if fields:
            disagreements[address], cells[address] = tuple(sorted(fields)), kept[0][1].recipe.cell
    return Found(whole, damaged, disagreements, cells)


def _checked(root: Path, name: str) -> Stored:
    kept = stored_files.read(root, name)
    try:
        (read_pipeline if kept.recipe.model == SCRIPT else read_line)(kept.line, name)
    except RecordsError as error:
        raise Damaged(error.what) from None
    return kept


def differences(one: Any, other: Any, path: str = "") -> Iterator[str]:
    """Paths of the measured facts that differ between two observations, given as parsed JSON."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            if key not in OF_THE_MACHINE:
                yield from differences(one.get(key), other.get(key), f"{path}.{key}" if path else key)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, (left, right) in enumerate(zip(one, other, strict=True)):
            yield from differences(left, right, f"{path}[{index}]")
    elif not _same(one, other):
        yield path


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=SMALLEST)
    return bool(one == other)
