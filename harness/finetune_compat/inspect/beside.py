"""What lies beside a saved adapter: versions in its model card, the trainer's log, the tokenizer. Facts, no opinion.

These files are read for what they say about the training. A file that cannot be read says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune_compat.machine.foreign import parsed

CARD, LOG = "README.md", "trainer_state.json"

_LARGEST = 200_000_000
"""Maximum size of a file that is read, in bytes. The largest files of tokenizers have about 40 MB."""

_CARD_LINE = re.compile(r"- (TRL|PEFT|Transformers|Pytorch|Datasets|Tokenizers):? (\d[\w.+!-]*)")
"""A line that TRL, PEFT or Transformers writes below `Framework versions`."""

_PACKAGES = {"pytorch": "torch"}
"""The name of a package where the model card has another one, in lower case."""


@dataclass(frozen=True, slots=True)
class Logged:
    """One number of the trainer's log."""

    step: int
    value: float


@dataclass(frozen=True, slots=True)
class TrainerLog:
    """The log in `trainer_state.json`."""

    place: str
    """Path of the file, relative to the adapter's directory."""
    steps: int
    """Steps that were done when it was written."""
    losses: tuple[Logged, ...]
    gradient_norms: tuple[Logged, ...]
    rewarded: bool
    """Whether it logs rewards. Then the loss may be zero while the model learns."""


@dataclass(frozen=True, slots=True)
class Beside:
    """Everything that lies beside an adapter."""

    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions that saved it, by package: those in its configuration and in its model card."""
    log: TrainerLog | None = None
    tokens: int | None = None
    """Rows that the tokenizer needs: its highest token id and one; None without tokenizer files."""


def read_beside(directory: Path, peft_version: str | None) -> Beside:
    """What lies beside the adapter in `directory`, whose configuration has `peft_version`."""
    versions = {"peft": peft_version} if peft_version else {}
    return Beside({**_card_versions(directory / CARD), **versions}, _log(directory), token_rows(directory))


def _card_versions(card: Path) -> dict[str, str]:
    try:
        text = card.read_bytes()[:_LARGEST].decode("utf-8", errors="replace")
    except OSError:
        return {}
    found = (_CARD_LINE.fullmatch(line.strip()) for line in text.splitlines())
    named = ((line[1].lower(), line[2]) for line in found if line)
    return {_PACKAGES.get(name, name): version for name, version in named}


def _log(directory: Path) -> TrainerLog | None:
    """The log beside the adapter, else of the newest checkpoint below, else of the directory above."""
    newest = sorted(directory.glob(f"checkpoint-*/{LOG}"), key=lambda path: _number(path.parent.name), reverse=True)
    for path in (directory / LOG, *newest, directory.parent / LOG):
        state = _json(path)
        if isinstance(state, dict) and isinstance(state.get("log_history"), list):
            inside = path.is_relative_to(directory)
            place = str(path.relative_to(directory)) if inside else f"../{LOG}"
            entries = [entry for entry in state["log_history"] if isinstance(entry, dict)]
            return TrainerLog(
                place,
                _whole(state.get("global_step")) or 0,
                tuple(_logged(entries, "loss")),
                tuple(_logged(entries, "grad_norm")),
                any(key.startswith("reward") for entry in entries for key in entry),
            )
    return None


def _number(name: str) -> int:
    last = name.rpartition("-")[2]
    return int(last) if last.isdecimal() else -1


def _logged(entries: list[dict[str, Any]], name: str) -> Iterator[Logged]:
    for entry in entries:
        value = entry.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield Logged(_whole(entry.get("step")) or 0, float(value))


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def token_rows(directory: Path) -> int | None:
    """Rows that the tokenizer in `directory` needs: its highest token id and one; None without tokenizer files."""
    files = ("tokenizer.json", "tokenizer_config.json", "added_tokens.json", "vocab.json")
    ids = [number for name in files for number in _ids(name, _json(directory / name))]
    return max(ids) + 1 if ids else None


def _ids(name: str, content: Any) -> Iterator[int]:
    if not isinstance(content, dict):
        return
    if name == "tokenizer.json":
        vocabulary = _under(content, "model", "vocab")
        yield from _numbers(vocabulary.values()) if isinstance(vocabulary, dict) else _last(vocabulary)
        added = content.get("added_tokens")
        yield from _numbers(_under(token, "id") for token in added) if isinstance(added, list) else ()
    elif name == "tokenizer_config.json":
        yield from (int(key) for key in _under(content, "added_tokens_decoder") or () if key.isdecimal())
    else:
        yield from _numbers(content.values())


def _last(tokens: Any) -> Iterator[int]:
    """The highest index of a list, which is the vocabulary of a unigram tokenizer."""
    if isinstance(tokens, list) and tokens:
        yield len(tokens) - 1


def _under(content: Any, *keys: str) -> Any:
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content


def _numbers(values: Any) -> Iterator[int]:
    return (number for value in values if (number := _whole(value)) is not None)


def _json(path: Path) -> Any:
    """The content of a JSON file; None if it cannot be read. NaN is a number: trainers write it into their log."""
    try:
        return parsed(path.read_bytes()) if path.stat().st_size <= _LARGEST else None
    except (OSError, ValueError):
        return None
