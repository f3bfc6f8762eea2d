"""The pytest plugin of a cell process: `pytest -p finetune_compat.cell.plugin --plan PLAN tests/cells`.

It parametrises the tests with the planned cells, records each observation before it is judged, and ends a cell that
hangs. Loaded in xdist's controller as well, where it must not import the stack.
"""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from finetune_compat.cell.gpus import GPU, Gpus
from finetune_compat.cell.worker_limits import Watch
from finetune_compat.contract.plan import Plan, PlannedCell, read_plan
from finetune_compat.contract.records import DeviceKind
from finetune_compat.machine import child_processes
from finetune_compat.machine.files import write_atomically

_PLAN = pytest.StashKey[Plan]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--plan` names the host's plan file."""
    parser.addoption("--plan", type=Path, help="plan file written by the host (finetune_compat.contract.plan)")


def pytest_configure(config: pytest.Config) -> None:
    """Read the plan, and give each xdist worker its own GPU before torch is imported."""
    path = config.getoption("--plan")
    if path is None or not path.is_file():
        problem = "no plan file was named" if path is None else f"no plan file at {path}"
        raise pytest.UsageError(f"--plan: {problem}. Cells are run by nox: nox -s \"compat-3.11(trl='0.22')\"")
    config.stash[_PLAN] = plan = read_plan(path)
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    # Before the workers are started, which then end with the controller as it ends with the host.
    child_processes.end_with_parent()
    child_processes.adopt()
    if worker is None:
        _watch(config, plan)
    if plan.device is DeviceKind.CUDA:
        _pin_gpu(config)


def _pin_gpu(config: pytest.Config) -> None:
    """In a worker, leave the GPU that the controller gave it, and no other; in the controller, be ready to give."""
    workers = getattr(config.option, "numprocesses", None)
    if hasattr(config, "workerinput"):
        os.environ["CUDA_VISIBLE_DEVICES"] = config.workerinput[GPU]
    elif workers:
        seen = [gpu for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
        config.pluginmanager.register(Gpus(seen or [str(number) for number in range(workers)]), "compat-gpus")


def _watch(config: pytest.Config, plan: Plan) -> None:
    """Watch the workers from the controller. Without workers there is no process to end but this one."""
    if getattr(config.option, "numprocesses", None):
        config.pluginmanager.register(Watch(plan), "compat-watch")
    elif plan.memory_limit is not None and not config.option.collectonly:
        print("no cell is ended for its memory: there is no worker (-n 0)", flush=True)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per planned cell, under the cell's own name."""
    if "planned" in metafunc.fixturenames:
        cells = metafunc.config.stash[_PLAN].cells
        metafunc.parametrize("planned", cells, ids=[str(cell) for cell in cells])


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tell the host which cells were selected, after `-k` and the like: it then misses those without an observation."""
    if session.testsfailed:
        return  # pytest calls this after collection errors too: nothing was selected then, rather than no cell
    plan = config.stash[_PLAN]
    cells = [item for item in items if isinstance(item, pytest.Function) and "planned" in item.fixturenames]
    lines = "".join(f"{plan.id_of(_planned(item))}\n" for item in cells)
    write_atomically(plan.selected_file, lines)
    stored = [item for item in cells if _planned(item).stored]
    if stored:
        # Selected, and not to run: the host copies what the store has into the run.
        config.hook.pytest_deselected(items=stored)
        items[:] = [item for item in items if item not in stored]


def _planned(item: pytest.Function) -> PlannedCell:
    return cast(PlannedCell, item.callspec.params["planned"])


@pytest.fixture(scope="session")
def plan(pytestconfig: pytest.Config) -> Plan:
    """What the host asked this process to do."""
    return pytestconfig.stash[_PLAN]


@pytest.fixture(autouse=True)
def _limit(plan: Plan) -> Iterator[None]:
    """End the process when a cell exceeds its limit; xdist replaces it and only this cell is lost."""
    # A C thread: it fires even while an extension holds the interpreter lock.
    faulthandler.dump_traceback_later(plan.limit_s, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()
