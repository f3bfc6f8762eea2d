"""Cached results of users' scripts. Host side.

The address has what can be known before a run: the script's bytes and arguments, the files and variables that they
name, and the stack. What else a script read is known after its run: the record lists these files with one digest, and
answers only while they are the same. A script that another machine answered is not cached, since the answer may change.
Without a network, machines have no address: the record of a script that asked them answers only while this is so.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import platform
import re
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from finetune_compat.contract.cell_id import CellId
from finetune_compat.contract.recipe import SCRIPT, Recipe
from finetune_compat.contract.records import DeviceKind
from finetune_compat.contract.redaction import is_secret
from finetune_compat.contract.script import PIPELINE_SCHEMA, Pipeline
from finetune_compat.machine import cpu
from finetune_compat.machine.files import sha256_of
from finetune_compat.machine.gpus import Gpu, kind_of
from finetune_compat.results.pipelines import read_pipeline
from finetune_compat.stacks.locks import Lock
from finetune_compat.store.addresses import Installed
from finetune_compat.store.sources import sources
from finetune_compat.store.store import Store

SUFFIXES = (".py", ".ipynb")
"""Suffixes of what may be cached. What a launcher starts is not known."""

MOST_FILES = 10_000
"""Maximum number of files of all directories that a script names or reads a model from."""

MOST_BYTES = 2 * 2**30
"""Maximum size of all such files: hashing them must take less time than running the script."""

_QUOTED = re.compile(r"""(["'])((?:(?!\1)[^\n\\]){1,500})\1""")
_OF_LIBRARIES = ("ACCELERATE_", "BITSANDBYTES_", "BNB_", "HF_", "PEFT_", "PYTORCH_", "TORCH_", "TRANSFORMERS_", "TRL_")
"""Beginnings of variables that libraries of a stack read."""

_OF_A_MODEL = ("config.json", "adapter_config.json", "dataset_info.json", "tokenizer_config.json")
"""Files beside which libraries in C and Rust read others, which Python does not see."""


class TooMuch(Exception):
    """The files that a script depends on are more than may be hashed."""


def script_recipe(
    given: Sequence[str], steps: int, stack: str, lock: Lock, environment: Installed, gpus: Sequence[Gpu]
) -> Recipe | None:
    """The recipe of a script on a stack. None if its results cannot be cached: it is started by a launcher, it names
    too many files, or the GPUs differ.
    """
    device, names = kind_of(gpus), {gpu.name for gpu in gpus}
    if not given[0].endswith(SUFFIXES) or len(names) > 1:
        return None
    try:
        content = _content(given)
    except (OSError, ValueError, TooMuch):
        return None
    return Recipe(
        cell=str(CellId(stack, Path(given[0]).stem, device=device)),
        lock_sha256=lock.sha256,
        python=environment.python,
        torch=environment.torch,
        base_torch=False,
        beside=environment.beside,
        device=names.pop() if device is DeviceKind.CUDA else platform.machine(),
        features=cpu.features(device, triton=environment.triton),
        sources=sources().watch(),
        given=content,
        model=SCRIPT,
        steps=steps,
        seed=0,
        attention="",
        handicap=None,
        deep=False,
        schema=PIPELINE_SCHEMA,
    )


def stored_script(recipe: Recipe, store: Store) -> Pipeline | None:
    """The cached record; None if there is none, if a file that the script read is not what it was, or if a machine that
    the script asked in vain has an address now.
    """
    found = store.read([recipe.address]).get(recipe.address)
    if found is None:
        return None
    seen = read_pipeline(found.line, recipe.address)
    try:
        same = _read_digest(seen) == seen.read_sha256
    except (OSError, TooMuch):
        return None
    return seen if same and not any(map(_has_address, seen.unanswered)) else None


@functools.cache
def _has_address(host: str) -> bool:
    """Whether this machine finds an address of `host`. Asked once a process: without a network it may take seconds."""
    try:
        return bool(socket.getaddrinfo(host, None))
    except (OSError, UnicodeError):
        return False


def keep_script(recipe: Recipe, seen: Pipeline, store: Store) -> str:
    """Store the record of a script that ended. Returns why it is not stored; empty if it is.

    The caller must not pass records of an exhausted machine.

    Raises:
        CompatError: the record contradicts the recipe, or the shared store does not answer.
        OSError: the store cannot be written to.
    """
    if seen.read is None:
        return "it read too many files, or changed a file that it had read"
    if answered := [host for host in seen.hosts if host not in seen.unanswered]:
        return f"it asked {', '.join(answered)}, whose answer may change"
    try:
        digest = _read_digest(seen)
    except TooMuch:
        return "the files that it read are too large"
    kept = dataclasses.replace(seen, read_sha256=digest)
    store.put(recipe, kept)
    store.push([recipe.address])
    return ""


def _content(given: Sequence[str]) -> str:
    """sha256 over the script, its arguments, and the files and variables that they name."""
    script = Path(given[0])
    source = script.read_bytes()
    words = [*given[1:], *_quoted(script, source)]
    files = _Files()
    named = {word: found for word in words for found in [files.named(word, script.parent)] if found}
    variables = {
        name: value
        for name, value in sorted(os.environ.items())
        if not is_secret(name) and (name.startswith(_OF_LIBRARIES) or name in words)
    }
    parts = [hashlib.sha256(source).hexdigest(), list(given[1:]), sorted(named.items()), variables]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _quoted(script: Path, source: bytes) -> list[str]:
    """The texts in quotes in the script, or in the cells of a notebook."""
    text = source.decode("utf-8", errors="replace")
    if script.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n".join("".join(cell["source"]) for cell in cells)
    return list(dict.fromkeys(match[2] for match in _QUOTED.finditer(text)))


def _read_digest(seen: Pipeline) -> str:
    """sha256 over the contents of the files that a script read."""
    files = _Files()
    found = {path: files.read(Path(path)) for path in seen.read or ()}
    return hashlib.sha256(json.dumps(sorted(found.items())).encode()).hexdigest()


class _Files:
    """Hashes files, up to the limits of one script."""

    def __init__(self) -> None:
        self._number = self._size = 0
        self._done: dict[Path, str] = {}

    def named(self, word: str, folder: Path) -> str:
        """The digest of the file or directory that a text names, seen from the current directory or `folder`; empty if
        it names none. A directory that the script is in or runs in is not content of the script.
        """
        around = {*Path.cwd().parents, Path.cwd(), folder.resolve(), *folder.resolve().parents}
        for base in (Path.cwd(), folder.resolve()):
            path = base / Path(word).expanduser()
            if path.exists() and path.resolve() not in around:
                return self._of(path)
        return ""

    def read(self, path: Path) -> str:
        """The digest of a file, and for a model's configuration of its directory."""
        if not path.is_file():
            return "missing"
        return self._of(path.parent) if path.name in _OF_A_MODEL else self._of(path)

    def _of(self, path: Path) -> str:
        if path not in self._done:
            self._done[path] = "".join(self._lines(path))
        return self._done[path]

    def _lines(self, path: Path) -> Iterator[str]:
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.is_file():
                self._number, self._size = self._number + 1, self._size + file.stat().st_size
                if self._number > MOST_FILES or self._size > MOST_BYTES:
                    raise TooMuch
                yield f"{file.relative_to(path).as_posix()} {sha256_of(file)}\n"
