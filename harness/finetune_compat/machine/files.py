"""Files that are written whole, locked, and read as JSON."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finetune_compat.contract.errors import CompatError


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` with `text` whole: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        # mkstemp's files are private; a run's are for whoever may read the project.
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold the run's lock: sessions side by side write its derived files one after another."""
    run.mkdir(parents=True, exist_ok=True)
    with (run / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def refuse_directory(path: Path, option: str, such_as: str) -> None:
    """Before anything is written: a file is replaced whole, and a directory cannot be."""
    if path.is_dir():
        raise CompatError("it is a directory", where=f"{option} {path}", todo=f"Name a file, such as {such_as}.")


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in `file`.

    Raises:
        CompatError: the file is missing or cannot be read, or is no JSON object.
    """
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CompatError(
            f"cannot be read: {error.strerror}",
            where=str(file),
            todo="Check the path; a folder stands for the file in it.",
        ) from None
    except ValueError as error:
        raise CompatError(
            f"not JSON: {error}",
            where=str(file),
            meaning="It was cut off, or edited by hand.",
            todo="Take the file from the model's repository again.",
        ) from None
    if not isinstance(raw, dict):
        raise CompatError(
            f"not a JSON object but {type(raw).__name__}",
            where=str(file),
            todo="Take the file from the model's repository again.",
        )
    return raw
