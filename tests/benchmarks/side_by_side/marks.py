"""Times at which the parts of a session begin, seen inside its cells' processes: `-p
tests.benchmarks.side_by_side.marks`.

Runs in a stack's environment: standard library and pytest only. Each mark is one line in the file that BENCHMARK_MARKS
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
    """Write that something begins, now or at the known time `at`."""
    line = f"{time.monotonic() if at is None else at:.3f} {_role} {what}\n"
    with Path(os.environ[MARKS]).open("a", encoding="utf-8") as file:
        file.write(line)


def started() -> float:
    """Return the time at which this process was started, from the kernel; to a hundredth of a second."""
    fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def pytest_addoption(parser: pytest.Parser) -> None:
    """pytest calls this hook first."""
    mark("process", started())
    mark("plugins")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Python, pytest and its plugins are loaded."""
    mark("collection")


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Cells are known; workers wait for cells."""
    mark("waiting")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[Any]:
    """A cell. The common imports are made before the first, so that they are measured separately."""
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
            # If the import fails, the cell reports it.
            with suppress(Exception):
                importlib.import_module(name)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """All cells have run."""
    mark("end")


def pytest_unconfigure(config: pytest.Config) -> None:
    """The last mark of the process."""
    mark("ended")
