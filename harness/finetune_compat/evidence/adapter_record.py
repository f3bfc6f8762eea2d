"""The record of saved adapters: what each release saved, and what each newer one made of it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydantic import TypeAdapter

from finetune_compat.machine.record_files import read_record

SAME = 0.01
"""Share of what training changed in the model's answers that another release may differ by. Releases of Transformers
differ by 1e-5; an adapter that is loaded in part differs by tenths."""


class Outcome(StrEnum):
    """What became of a saved adapter. The worst comes first."""

    FAILS = "does not load"
    """An error."""
    NOTHING = "loads as nothing"
    """Without an error, and the model answers as without the adapter."""
    HALF = "half loads"
    """Without an error, and the model answers neither as trained nor as without the adapter."""
    LOADS = "loads"
    UNKNOWN = "cannot be told"
    """Training changed no answer, or the base alone answers differently here."""


def outcome(error: str, moved: float, off: float, off_base: float, drift: float) -> Outcome:
    """The outcome of one load.

    Args:
        error: the error that ended it; empty if there was none.
        moved: largest change of a logit by the adapter, where it was trained.
        off: largest difference of a logit from the trained model, after loading.
        off_base: the same from the base without the adapter.
        drift: the same between the base here and there.
    """
    if error:
        return Outcome.FAILS
    same = SAME * moved
    if not moved > 0 or not drift <= same:  # also if one is NaN
        return Outcome.UNKNOWN
    if off <= same:
        return Outcome.LOADS
    return Outcome.NOTHING if off_base <= same else Outcome.HALF


@dataclass(frozen=True, slots=True)
class Save:
    """One method under one release of PEFT."""

    method: str
    """PEFT's own name of the type, with the variant of LoRA."""
    peft: str
    error: str
    """Why it could not be trained and saved; empty if it was."""
    findings: tuple[str, ...]
    """Codes that `compat inspect` reports as unhealthy. The adapter was trained and is whole: each is a false alarm."""


@dataclass(frozen=True, slots=True)
class Load:
    """One saved adapter under the same or a newer release of PEFT."""

    method: str
    saved_by: str
    loaded_by: str
    """Releases of PEFT."""
    outcome: Outcome
    said: str
    """The error; without one, the first warning, if the adapter is not loaded whole."""
    foretold: tuple[str, ...]
    """Codes with which `compat inspect --base` says that it does not load whole."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """One run of the corpus."""

    measured: str
    """Day: UTC, ISO 8601."""
    commit: str
    versions: Mapping[str, Mapping[str, str]]
    """Versions of PEFT, Transformers and torch, by release of PEFT, oldest first."""
    saves: tuple[Save, ...]
    loads: tuple[Load, ...]


_CORPUS = TypeAdapter(Corpus)


def read_corpus(path: Path) -> Corpus:
    """The record in `path`.

    Raises:
        RecordsError: it cannot be read, or is no such record.
    """
    return read_record(_CORPUS, path, name="a record of saved adapters", todo="Make it again: nox -s corpus")


def corpus_text(corpus: Corpus) -> str:
    """The text of the file: one line for each adapter and each load."""
    found = dataclasses.asdict(corpus)
    lists = {name: ",\n".join(map(json.dumps, found.pop(name))) for name in ("saves", "loads")}
    body = ",\n".join(f'"{name}": [\n{rows}\n]' for name, rows in lists.items())
    return f"{json.dumps(found, indent=1)[:-2]},\n{body}\n}}\n"
