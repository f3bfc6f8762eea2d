"""The cost of `compat watch`: the processor time of a script's processes, watched and alone, in turn."""

from __future__ import annotations

import contextlib
import os
import resource
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from finetune_compat.contract.errors import CompatError
from finetune_compat.watch.host import Interpreter, run_pipeline

from side_by_side.children import pinned, timed

SCRIPT = Path(__file__).parents[1] / "watched.py"

PAIRS: Mapping[str, int] = {"tiny": 3, "66M": 2}
"""Pairs by size of the model. On an idle core, all together take less than five minutes."""


def pairs(
    interpreter: Interpreter, log: Path, say: Callable[[str], None], wanted: Mapping[str, int] = PAIRS
) -> dict[str, list[tuple[float, float]]]:
    """Processor seconds of the script alone and watched, by size of the model; one pair follows the other.

    Raises:
        CompatError: the script fails alone, or the watch saw no training.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for size, count in wanted.items():
        for number in range(count):
            with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), _pinned():
                command = [str(interpreter.python), str(SCRIPT), size]
                alone = timed(command, log=log / f"alone-{size}.log", cwd=Path(folder), environ=pinned()).cpu_seconds
                watched = _watched(interpreter, size)
            found.setdefault(size, []).append((alone, watched))
            say(f"{size}, pair {number + 1} of {count}: {alone:.1f} s alone, {watched:.1f} s watched")
    return found


def _watched(interpreter: Interpreter, size: str) -> float:
    before = _of_children()
    seen = run_pipeline([str(SCRIPT), size], interpreter)
    took = _of_children() - before
    if seen.error is not None or not any(run.seen.training for run in seen.runs):
        raise CompatError(
            "the watch saw no training",
            where=str(SCRIPT),
            meaning=str(seen.error or "The script ended before it trained."),
            todo="Watch the script by itself.",
        )
    return took


def _of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@contextlib.contextmanager
def _pinned() -> Iterator[None]:
    """Give the watched script the environment of the script alone."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(pinned())
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
