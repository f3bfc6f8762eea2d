"""The pytest plugin of a cell process: `pytest -p finetune_compat.cell.plugin --plan PLAN cell/session`.

It parametrises the tests with the planned cells and ends a cell that exceeds its time limit. xdist's controller loads
it as well, where it must not import the stack.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from finetune_compat.cell.forking.workers import ForkServer, Joining
from finetune_compat.cell.gpus import GPU, Gpus
from finetune_compat.cell.own_time import own_time
from finetune_compat.cell.time_limit import limited
from finetune_compat.cell.worker_limits import Watch
from finetune_compat.contract.plan import Plan, PlannedCell, read_plan
from finetune_compat.contract.records import DeviceKind
from finetune_compat.machine import child_processes
from finetune_compat.machine.files import write_atomically

_PLAN = pytest.StashKey[Plan]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--plan` names the host's plan file."""
    parser.addoption("--plan", type=Path, help="plan file written by the host (finetune_compat.contract.plan)")
    parser.addoption("--joining", action="store_true", help="add workers while the plan's workers file allows more")
    parser.addoption("--fork-after", default="", help="fork the workers from a process that imported these modules")


def pytest_configure(config: pytest.Config) -> None:
    """Read the plan, and give each xdist worker its own GPU before torch is imported."""
    path = config.getoption("--plan")
    if path is None or not path.is_file():
        problem = "no plan file was named" if path is None else f"no plan file at {path}"
        raise pytest.UsageError(f"--plan: {problem}. Cells are run by nox: nox -s \"compat-3.11(trl='0.22')\"")
    config.stash[_PLAN] = plan = read_plan(path)
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    # Before the workers are started: they then end with the controller, and the controller ends with the host.
    child_processes.end_with_parent()
    child_processes.adopt()
    if worker is None:
        _watch(config, plan)
    if plan.device is DeviceKind.CUDA:
        _pin_gpu(config, plan)


def _pin_gpu(config: pytest.Config, plan: Plan) -> None:
    """In a worker, make only the GPU visible that the controller assigned. In the controller, register `Gpus`."""
    workers = getattr(config.option, "numprocesses", None)
    if hasattr(config, "workerinput"):
        os.environ["CUDA_VISIBLE_DEVICES"] = config.workerinput[GPU]
    elif workers:
        seen = [gpu for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
        gpus = Gpus(seen or [str(number) for number in range(workers)], Path(plan.run) / "gpus")
        config.pluginmanager.register(gpus, "compat-gpus")


def _watch(config: pytest.Config, plan: Plan) -> None:
    """In the controller, register what watches and adds workers. Without workers, no memory limit applies."""
    if getattr(config.option, "numprocesses", None):
        config.pluginmanager.register(Watch(plan), "compat-watch")
        if config.option.joining:
            config.pluginmanager.register(Joining(plan, config), "compat-joining")
        if config.option.fork_after:
            server = ForkServer(config.option.fork_after.split(","), plan.scratch)
            config.add_cleanup(server.close)
            config.option.tx = [server.spec] * len(config.option.tx)
    elif plan.memory_limit is not None and not config.option.collectonly:
        print("the memory limit does not apply: there is no worker (-n 0)", flush=True)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise `planned`: one test per planned cell, with the cell's name as its id."""
    if "planned" in metafunc.fixturenames:
        cells = metafunc.config.stash[_PLAN].cells
        metafunc.parametrize("planned", cells, ids=[str(cell) for cell in cells])


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Write the names of the selected cells for the host, after `-k`. A cell without an observation is then missing."""
    if session.testsfailed:
        return  # pytest calls this after collection errors too: the selection is then unknown, not empty
    plan = config.stash[_PLAN]
    cells = [item for item in items if isinstance(item, pytest.Function) and "planned" in item.fixturenames]
    lines = "".join(f"{plan.id_of(_planned(item))}\n" for item in cells)
    write_atomically(plan.selected_file, lines)
    stored = [item for item in cells if _planned(item).stored]
    if stored:
        # Cached cells are selected but not run: the host copies their observations from the store into the run.
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
    """End the process when a cell exceeds its time limit."""
    with limited(plan.limit_s), own_time(plan.limit_s):
        yield
