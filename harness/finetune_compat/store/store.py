"""The store: a directory on this machine, and optionally a shared store. Host side.

    COMPAT_STORE         the directory; by default `finetune-compat/store` in the user's cache directory
    COMPAT_STORE_REMOTE  URL of a shared store, with any protocol of fsspec (s3://, gs://, hf://datasets/..., file://)

Results are looked up in the directory first, then in the shared store. Those found there are copied into the directory.
If the shared store cannot be read, that is an error, because all cells would run again. If it cannot be written to,
that is a warning, because the results are in the directory.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_compat.contract.errors import CompatError, UnknownName
from finetune_compat.contract.recipe import Recipe, contradiction
from finetune_compat.contract.records import Observation, to_json
from finetune_compat.contract.script import Pipeline
from finetune_compat.contract.version import __version__
from finetune_compat.machine.files import write_atomically
from finetune_compat.machine.places import STORE, places
from finetune_compat.results.run_files import read_line
from finetune_compat.store import stored_files
from finetune_compat.store.remote import Remote
from finetune_compat.store.stored_files import Damaged, Stored

SHARED = "COMPAT_STORE_REMOTE"

_THERE = "shared.json"
_LOST = "lost.json"
_HISTORY = "history.json"
_HISTORY_FORMAT = 2


@dataclass(frozen=True, slots=True)
class Past:
    """The latest observation of a cell, at any address."""

    address: str
    duration_s: float
    outcome: str | None
    """How it was judged when it was recorded."""
    recorded_at: str
    cpu_s: float | None = None
    """CPU seconds; None if they are not known."""


class Store:
    """Cached observations by address."""

    def __init__(self, root: Path, remote: Remote | None = None) -> None:
        self.root = root
        self.remote = remote

    @classmethod
    def configured(cls) -> Store:
        """The store that COMPAT_STORE and COMPAT_STORE_REMOTE name.

        Raises:
            CompatError: the directory is a file or below one; the URL is invalid, or its protocol needs a package
                that is not installed.
        """
        url = os.environ.get(SHARED, "")
        return cls(_directory(places().store), Remote(url) if url else None)

    @property
    def holds_anything(self) -> bool:
        """Whether the store may have any observation. A shared store is assumed to have some."""
        return self.remote is not None or stored_files.any_there(self.root)

    def __str__(self) -> str:
        return f"{self.root}" + (f" and {self.remote}" if self.remote else "")

    def has(self, addresses: Iterable[str]) -> set[str]:
        """Those of `addresses` that have a file, found by its name: no file is opened or downloaded.

        Raises:
            StoreUnreachable: some are not in the directory, and the shared store does not answer.
        """
        return set(self.names(addresses))

    def names(self, addresses: Iterable[str]) -> dict[str, list[str]]:
        """Names of files by address, from the directory, else from the shared store; only `addresses` that have files.

        A name has a digest of the file's content. No file is opened or downloaded.

        Raises:
            StoreUnreachable: some are not in the directory, and the shared store does not answer.
        """
        wanted = set(addresses)
        here = stored_files.names(self.root, wanted)
        missing = wanted - here.keys()
        return here | (self.remote.names(missing) if self.remote and missing else {})

    def read(self, addresses: Iterable[str]) -> dict[str, Stored]:
        """The latest valid observation of each of `addresses` that has one.

        Damaged files are ignored, with a warning on stderr.

        Raises:
            StoreUnreachable: some are not in the directory, and the shared store does not answer.
        """
        wanted = set(addresses)
        found = self._read_here(wanted)
        missing = wanted - found.keys()
        if self.remote and missing:
            for damage in self.remote.fetch(missing, self.root):
                _warn(damage, "compat store verify --remote")
            found |= self._read_here(missing)
        return found

    def get(self, address: str) -> Observation:
        """The latest valid observation at `address`.

        Raises:
            UnknownName: there is none.
            RecordsError: it was written by another version of the harness.
        """
        found = self.read([address]).get(address)
        if found is None:
            raise UnknownName(
                f"there is no observation at {address}",
                where=str(self),
                meaning="Its cell never ran here, or its files were pruned.",
                todo="`compat store ls` lists the cached results.",
            )
        return read_line(found.line, f"{self.root}: {address}")

    def holding(self, lines: Mapping[str, str]) -> dict[str, Stored]:
        """What is stored, by cell, of those observations (`lines`, by cell) that the directory holds byte for byte.

        A cell stores only what it found to be of its recipe. So an observation that is not stored has no known recipe.
        """
        found: dict[str, Stored] = {}
        for name, (cell, *_) in self._every().items():
            if cell in lines and cell not in found and (kept := self._whole(name)) and kept.line == lines[cell]:
                found[cell] = kept
        return found

    def put(self, recipe: Recipe, seen: Observation | Pipeline, cpu_s: float | None = None) -> None:
        """Store `seen` at the address of `recipe` in the directory, with its CPU seconds.

        The caller must not pass observations of an exhausted machine. `push` writes the shared store.

        Raises:
            CompatError: the observation contradicts the recipe.
            OSError: the directory cannot be written to.
        """
        line = seen.to_json() if isinstance(seen, Pipeline) else to_json(seen)
        other = contradiction(recipe, json.loads(line))
        if other:
            raise CompatError(
                f"the observation is not of its recipe: {other}",
                where=recipe.cell,
                meaning="The environment differs from what the host expected.",
                todo="Delete the environment and run the stack again.",
            )
        counter = stored_files.next_counter(self.root, recipe.address)
        kept = Stored(recipe=recipe, line=line, counter=counter, recorded_at=_now(), harness=__version__, cpu_s=cpu_s)
        stored_files.write(self.root, kept)

    def push(self, addresses: Iterable[str] | None = None) -> int:
        """Upload the files that the shared store lacks, of `addresses` or all; return their number.

        Raises:
            StoreUnreachable: the shared store does not answer, or cannot be written to.
        """
        if self.remote is None:
            return 0
        here = stored_files.names(self.root, addresses)
        return self._add(self.remote, [name for names in here.values() for name in names])

    def share(self, names: Iterable[str]) -> int:
        """Upload those of the files `names` that are in the directory and not known to be in the shared store.

        Usually all are known to be there, and the shared store is not contacted.

        Returns:
            The number of uploaded files.

        Raises:
            StoreUnreachable: the shared store does not answer, or cannot be written to.
        """
        if self.remote is None:
            return 0
        known = self._known_there(self.remote)
        new = [name for name in names if name not in known and stored_files.path_of(self.root, name).exists()]
        return self._add(self.remote, new) if new else 0

    def _add(self, remote: Remote, names: Sequence[str]) -> int:
        added = remote.add(self.root, names)
        known = sorted(self._known_there(remote) | remote.seen)
        self._note(_THERE, json.dumps({"url": remote.url, "names": known}, separators=(",", ":")))
        return added

    def _known_there(self, remote: Remote) -> frozenset[str]:
        """Names of files that were listed in the shared store or uploaded to it, read from a file in the directory."""
        try:
            known = json.loads((self.root / _THERE).read_text(encoding="utf-8"))
            return frozenset(known["names"]) if known["url"] == remote.url else frozenset()
        except (OSError, ValueError, KeyError, TypeError):
            return frozenset()

    def history(self) -> Mapping[str, Past]:
        """The latest observation of every cell in the directory, by cell id.

        The facts of each file are cached in an index file, which may be removed at any time.
        """
        latest: dict[str, Past] = {}
        for name, (cell, *rest) in self._every().items():
            past = Past(stored_files.address_of(name), *rest)
            if cell not in latest or latest[cell].recorded_at < past.recorded_at:
                latest[cell] = past
        return latest

    def _every(self) -> Mapping[str, list[Any]]:
        """The facts of each file in the directory, by name: its cell, then the fields of `Past` after the address."""
        names = {name for found in stored_files.names(self.root).values() for name in found}
        known = self._remembered()
        facts = {name: known[name] for name in names & known.keys()}
        for name in sorted(names - known.keys()):
            try:
                facts[name] = _facts(stored_files.read(self.root, name))
            except Damaged as damage:
                _warn(f"{stored_files.path_of(self.root, name)}: {damage}")
        if facts.keys() != known.keys():
            text = json.dumps({"format": _HISTORY_FORMAT, "objects": facts}, separators=(",", ":"))
            self._note(_HISTORY, text)
        return facts

    def lost(self) -> Mapping[str, str]:
        """Cells whose last run by `compat run` was an infrastructure failure, with its time.

        Such observations are not cached. The cells are listed in a file that may be removed at any time.
        """
        try:
            return dict(json.loads((self.root / _LOST).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return {}

    def remember(self, *, lost: Iterable[str], observed: Iterable[str]) -> None:
        """Update `lost()` after a run.

        Args:
            lost: cells that ended with an infrastructure failure.
            observed: cells with a result, which are removed from the list.
        """
        before, found = self.lost(), frozenset(observed)
        after = {cell: at for cell, at in before.items() if cell not in found} | dict.fromkeys(lost, _now())
        if after != before:
            self._note(_LOST, json.dumps(after, indent=0))

    def _note(self, name: str, text: str) -> None:
        """Write an optional file of the directory. Errors are ignored, because the directory may be read-only."""
        with contextlib.suppress(OSError):
            write_atomically(self.root / name, text)

    def _remembered(self) -> dict[str, list[Any]]:
        try:
            raw = json.loads((self.root / _HISTORY).read_text(encoding="utf-8"))
            return dict(raw["objects"]) if raw["format"] == _HISTORY_FORMAT else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}  # `history` writes it again

    def _read_here(self, addresses: set[str]) -> dict[str, Stored]:
        found: dict[str, Stored] = {}
        for address, names in stored_files.names(self.root, addresses).items():
            whole = {name: read for name in names if (read := self._whole(name)) is not None}
            if whole:
                found[address] = latest(whole)
        return found

    def _whole(self, name: str) -> Stored | None:
        try:
            return stored_files.read(self.root, name)
        except Damaged as damage:
            _warn(f"{stored_files.path_of(self.root, name)}: {damage}")
            return None


def _directory(root: Path) -> Path:
    """`root`, if it is a directory or can be created.

    Raises:
        CompatError: `root` or one of its parents is a file.
    """
    there = next((path for path in (root, *root.parents) if path.exists()), root)
    if not there.is_dir():
        raise CompatError(
            f"the store cannot be created: {there} is a file" if there != root else "this is a file",
            where=f"{STORE}: {root}",
            meaning="The store is a directory with a file for each observation.",
            todo=f"Set {STORE} to a directory. It is created when the first cell has run.",
        )
    return root


def latest(found: Mapping[str, Stored]) -> Stored:
    """The one of several observations of one address that counts, given by file name: the last, so that `--fresh`
    counts. The choice is the same on every machine, in any order of the files.
    """
    return max(found.items(), key=stored_files.order)[1]


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")


def _facts(kept: Stored) -> list[Any]:
    return [kept.recipe.cell, kept.duration_s, kept.outcome, kept.recorded_at, kept.cpu_s]


def _warn(problem: str, see: str = "compat store verify") -> None:
    print(f"store: {problem}; the file is ignored (`{see}`)", file=sys.stderr, flush=True)
