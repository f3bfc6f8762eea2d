"""When the parts of a session begin, seen from inside its cells' processes: `-p tests.benchmarks.side_by_side.marks`.

Runs in a stack's environment: standard library and pytest alone. One line a mark in the file that BENCHMARK_MARKS
names: seconds of the machine's monotonic clock, which all processes share; the process; what begins.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from . import CONTROLLER, MARKS, WORKER

_role = WORKER if "PYTEST_XDIST_WORKER" in os.environ else CONTROLLER


def mark(what: str, at: float | None = None) -> None:
    """Note that something begins, now or `at` a time that is known."""
    line = f"{time.monotonic() if at is None else at:.3f} {_role} {what}\n"
    with Path(os.environ[MARKS]).open("a", encoding="utf-8") as file:
        file.write(line)


def started() -> float:
    """When this process was started, by the kernel's books; to a hundredth of a second."""
    fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The first that pytest asks of a plugin."""
    mark("process", started())
    mark("plugins")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Python, pytest and its plugins are there."""
    mark("collection")


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Cells are known; workers wait to be given some."""
    mark("waiting")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[Any]:
    """A cell. Before the first, what all of them import is imported: it is seen apart from what the cell does."""
    if _role == WORKER:
        _import(item)
        mark(f"cell {item.name}")
    done = yield
    if _role == WORKER:
        mark("between cells")
    return done


def _import(item: pytest.Item) -> None:
    if not hasattr(item.session, "_imported"):
        item.session._imported = True  # type: ignore[attr-defined]
        mark("import")
        for name in ("finetune_compat.cell.runner", "finetune_compat.cell.execution", "bitsandbytes"):
            # Whether it can be imported is for the cell to find out.
            with suppress(Exception):
                importlib.import_module(name)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """All cells have run."""
    mark("end")


def pytest_unconfigure(config: pytest.Config) -> None:
    """The last that is seen of the process."""
    mark("ended")
