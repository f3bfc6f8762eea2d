"""The engine of a Ray cluster, without Ray: what a part needs, and what becomes of parts that are lost."""

from __future__ import annotations

import dataclasses
import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from finetune_compat.contract.errors import CompatError
from finetune_compat.contract.options import DeviceChoice
from finetune_compat.contract.records import End, EndCause, Started, to_json
from finetune_compat.machine.capacity import CELL_BYTES
from finetune_compat.machine.gpus import Gpu, GpuFailed
from finetune_compat.results.run_files import RowState, StackRow, observation_lines, read_rows, unfinished, write_row
from finetune_compat.run import part_run, ray_engine
from finetune_compat.run.options import RunOptions
from finetune_compat.run.parts import Part
from finetune_compat.run.ray_engine import CELL_GPU_BYTES, LOSSES, Delivery, Ended, Needs, RayRunning, needs_of
from finetune_compat.stacks.supply import Supply
from finetune_compat.store.store import Store
from run_builders import IDS, STACK, observed, request, stored_cells

FAST = Gpu(0, None, "GPU-a", "GPU-a", "A", 40 * CELL_GPU_BYTES, 0)


@pytest.mark.parametrize(
    ("model", "gpus", "needs"),
    [
        (None, (), Needs(1, CELL_BYTES, 0.0)),
        (None, (FAST,), Needs(1, CELL_BYTES, 1 / 40)),
        (None, (dataclasses.replace(FAST, total=CELL_GPU_BYTES // 2),), Needs(1, CELL_BYTES, 1.0)),
        ("org/model", (FAST,), Needs(1, None, 1.0)),
        ("org/model", (), Needs(16, None, 0.0)),
    ],
)
def test_a_part_needs_what_its_cells_take(model: str | None, gpus: tuple[Gpu, ...], needs: Needs) -> None:
    """Tiny cells share a GPU; real weights have a GPU, or all cores of the smallest node, for themselves."""
    assert needs_of(RunOptions(model=model), gpus, 16) == needs


def test_without_ray_there_is_a_command_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is imported only when it is asked for."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(CompatError, match="Ray is not installed") as caught, ray_engine.connected(request()):
        pass
    assert caught.value.todo == (
        "pip install 'finetune-compat[host,ray]', or pip install -e '.[host,ray]' in a checkout."
    )


def test_packages_of_this_machine_are_refused() -> None:
    """The nodes do not have them."""
    options = dataclasses.replace(request().options, supply=Supply(offline=True))
    with (
        pytest.raises(CompatError, match="name what is on this machine"),
        ray_engine.connected(request(options=options)),
    ):
        pass


def test_an_address_where_nothing_listens_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray alone would try for minutes."""
    monkeypatch.setattr(ray_engine, "_imported", lambda: None)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        ray_engine._knock(f"ray://127.0.0.1:{port}")
    for given in ("auto", ""):
        ray_engine._knock(given)
    asked = request(address=f"127.0.0.1:{port}")
    with (
        pytest.raises(CompatError, match="no cluster answers: Connection refused") as caught,
        ray_engine.connected(asked),
    ):
        pass
    assert caught.value.where == f"--engine ray --address 127.0.0.1:{port}"


class RayError(Exception):
    """Ray's base class."""


class RayTaskError(RayError):
    """An exception of a task."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Inbox:
    """A queue in this process."""

    def __init__(self, **_: object) -> None:
        self.waiting: list[Delivery] = []
        self.open = True

    def qsize(self) -> int:
        """Return the number of deliveries."""
        return len(self.waiting)

    def get_nowait_batch(self, number: int) -> list[Delivery]:
        """Take deliveries."""
        taken, self.waiting = self.waiting[:number], self.waiting[number:]
        return taken

    def shutdown(self, *, force: bool) -> None:
        """Close it."""
        self.open = False


class Ray:
    """Stands in for Ray: tasks end as the test says, in their order."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self) -> None:
        self.jobs: list[tuple[str, ...]] = []
        """The cells of each task."""
        self.ends: list[Ended | Exception | None] = []
        """How each task ends; None: it runs on."""
        self.cancelled: list[int] = []

    def remote(self, _: object) -> Ray:
        """Return a task's function."""
        return self

    def options(self, **named: object) -> SimpleNamespace:
        """Return a function that submits."""
        assert named["max_retries"] == 0
        return SimpleNamespace(remote=self._submit)

    def _submit(self, job: str, *_: object) -> int:
        self.jobs.append(part_run._JSON.validate_json(job).options.cells or ())
        return len(self.jobs) - 1

    def wait(self, tasks: list[int], **_: object) -> tuple[list[int], list[int]]:
        """Return the tasks that ended."""
        ended = [task for task in tasks if task in self.cancelled or self.ends[task] is not None]
        return ended, [task for task in tasks if task not in ended]

    def get(self, task: int) -> Ended:
        """Return how a task ended."""
        end = self.ends[task]
        if isinstance(end, Exception):
            raise end
        assert end is not None
        return end

    def cancel(self, task: int, **_: object) -> None:
        """Cancel a task."""
        self.cancelled.append(task)


def ended(*rows: StackRow, status: int = 0, output: str = "") -> Ended:
    """Return the end of a task."""
    return Ended("node", status, rows, output)


RAN = StackRow(STACK, RowState.RAN, "", ())


@pytest.fixture
def ray() -> Ray:
    """Return the stand-in."""
    return Ray()


@pytest.fixture
def start(tmp_path: Path, ray: Ray, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that starts parts of the three cells in a run."""
    monkeypatch.setattr(RayRunning, "_new_inbox", lambda _: Inbox())
    write_row(tmp_path, unfinished(STACK, IDS))

    def started(*parts: tuple[str, ...], most: int = 9) -> RayRunning:
        job = part_run.Job("here", RunOptions())
        cells = [Part(part, 60.0) for part in parts]
        return RayRunning(ray, tmp_path, cells, job, Needs(1, CELL_BYTES, 0.0), most, "how")

    return started


def deliver(running: RayRunning, *cells: str) -> None:
    """Deliver the observations of these cells."""
    running._inbox.waiting.append(Delivery(tuple(to_json(observed(cell)) for cell in cells), ()))


def test_a_stack_has_ended_when_all_of_its_parts_have(ray: Ray, start: Any, tmp_path: Path) -> None:
    """Before that its row says that it is running."""
    running = start(IDS[:2], IDS[2:])
    assert running._parts == {STACK: 2}
    ray.ends = [ended(RAN), None]
    deliver(running, *IDS[:2])
    assert not running.over()
    assert read_rows(tmp_path) == (unfinished(STACK, IDS),)
    ray.ends[1] = ended(RAN)
    deliver(running, IDS[2])
    assert running.over()
    assert read_rows(tmp_path) == (StackRow(STACK, RowState.RAN, "", IDS),)
    assert tuple(observation_lines(tmp_path)) == IDS


def test_only_what_did_not_come_back_is_submitted_again(ray: Ray, start: Any, tmp_path: Path) -> None:
    """What was delivered before the node was lost counts."""
    running = start(IDS)
    ray.ends = [RayError("node died"), ended(RAN)]
    deliver(running, IDS[0])
    while not running.over():
        deliver(running, *IDS[1:])
    assert ray.jobs == [IDS, IDS[1:]]
    assert read_rows(tmp_path) == (StackRow(STACK, RowState.RAN, "", IDS),)


def test_a_part_whose_last_cell_came_back_is_not_submitted_again(ray: Ray, start: Any, tmp_path: Path) -> None:
    """Its node was lost while the task ended."""
    running = start(IDS)
    ray.ends = [RayError("node died")]
    deliver(running, *IDS)
    assert running.over()
    assert read_rows(tmp_path) == (StackRow(STACK, RowState.RAN, "", IDS),)


def test_a_part_that_is_always_lost_is_infrastructure(ray: Ray, start: Any, tmp_path: Path) -> None:
    """A cell that comes back begins the count again."""
    running = start(IDS)
    ray.ends = [RayError("node died")] * (LOSSES + 1)
    running.over()
    deliver(running, IDS[0])
    while not running.over():
        pass
    assert ray.jobs == [IDS, IDS, *[IDS[1:]] * (LOSSES - 1)]
    (row,) = read_rows(tmp_path)
    assert row == StackRow(STACK, RowState.INFRASTRUCTURE, f"its node was lost {LOSSES} times (RayError)", IDS)


def test_a_full_disk_is_the_machine_and_a_missing_package_is_not(ray: Ray, start: Any) -> None:
    """The first is tried elsewhere; the second is one error."""
    running = start(IDS)
    ray.ends = [RayTaskError(OSError(28, "No space left")), RayTaskError(ImportError("no module finetune_compat"))]
    assert not running.over()
    assert ray.jobs == [IDS, IDS]
    with pytest.raises(CompatError, match="cannot be used there: no module finetune_compat"):
        running.over()


def test_a_node_that_refuses_is_an_error(ray: Ray, start: Any) -> None:
    """It joined after the run had begun, with other sources."""
    running = start(IDS)
    ray.ends = [ended(status=4, output="sources: this node has others\n")]
    with pytest.raises(CompatError, match="sources: this node has others"):
        running.over()


def test_a_part_without_a_row_is_infrastructure(ray: Ray, start: Any, tmp_path: Path) -> None:
    """Its process was killed on the node; its output is in the run's log."""
    running = start(IDS)
    ray.ends = [ended(status=-9, output="Killed")]
    assert running.over()
    (row,) = read_rows(tmp_path)
    assert row.reason == "its part ended with status -9 on node: see ray.log"
    assert (tmp_path / "ray.log").read_text() == f"--- node: {STACK}\nKilled\n"


def test_no_more_tasks_than_asked_for(ray: Ray, start: Any) -> None:
    """The next is submitted when one has ended."""
    running = start(IDS[:1], IDS[1:2], IDS[2:], most=2)
    assert len(ray.jobs) == 2
    ray.ends = [ended(RAN), None, None]
    assert not running.over()
    assert ray.jobs == [IDS[:1], IDS[1:2], IDS[2:]]


def test_a_stopped_run_has_what_was_delivered(ray: Ray, start: Any, tmp_path: Path) -> None:
    """Its tasks are cancelled."""
    running = start(IDS[:1], IDS[1:], most=1)
    ray.ends = [None]
    deliver(running, IDS[0])
    running.stop()
    assert ray.cancelled == [0]
    assert tuple(observation_lines(tmp_path)) == IDS[:1]
    assert not running._inbox.open


def test_files_of_a_node_join_the_store_unless_damaged(
    ray: Ray, start: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, nox: object, in_places: Any
) -> None:
    """An interrupted run is resumed from them."""
    paths = stored_cells(monkeypatch, *IDS)
    contents = [(path.name, path.read_bytes()) for path in paths.values()]
    in_places(store=tmp_path / "other")
    running = start(IDS)
    ray.ends = [None]
    bad = (("../../x.json", b""), (contents[2][0], contents[1][1]))
    running._inbox.waiting.append(Delivery((), (*contents[:2], *bad)))
    running.over()
    assert set(Store.configured().history()) == set(IDS[:2])
    assert not list(tmp_path.rglob("x.json"))


@pytest.mark.parametrize(
    ("end", "over"), [(None, False), (End(cause=EndCause.CRASH, resident_bytes=0, seconds=1.0), True)]
)
def test_a_cell_that_crashed_does_not_run_again_when_its_node_is_lost(end: End | None, over: bool) -> None:
    """Its second record says how it ended; the first only that it started."""
    assert ray_engine._has_ended(to_json(Started(cell=IDS[0], started="2026-01-01T00:00:00+00:00", end=end))) is over
    assert ray_engine._has_ended(to_json(observed(IDS[0])))


class Nodes:
    """Stands in for Ray's view of the nodes."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, *nodes: dict[str, float], answer: tuple[Gpu, ...] | Exception = ()) -> None:
        self._nodes, self._answer = nodes, answer

    def nodes(self) -> list[dict[str, Any]]:
        """Return the nodes, and one that was lost."""
        lost = {"Alive": False, "Resources": {"CPU": 99, "memory": 99 * CELL_BYTES}}
        return [lost, *({"Alive": True, "Resources": node} for node in self._nodes)]

    def cluster_resources(self) -> dict[str, float]:
        """Return what all nodes have together."""
        return {"GPU": sum(node.get("GPU", 0) for node in self._nodes)}

    def remote(self, _: object) -> Nodes:
        """Return a task's function."""
        return self

    def options(self, **_: object) -> SimpleNamespace:
        """Return a function that submits."""
        return SimpleNamespace(remote=lambda *_: "task")

    def get(self, _: str) -> tuple[Gpu, ...]:
        """Return the GPUs that the node's process chose."""
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def on(device: str, *nodes: dict[str, float], jobs: int | None = None, **answer: Any) -> ray_engine.RayEngine:
    """Return the engine for a request on that device."""
    options = dataclasses.replace(request().options, device=DeviceChoice(device))
    return ray_engine.RayEngine(Nodes(*nodes, **answer), request(options=options, jobs=jobs))


def test_parts_at_once_are_limited_by_cores_memory_and_gpus() -> None:
    """A head node without cores runs nothing."""
    large, small, head = {"CPU": 8, "memory": 3.5 * CELL_BYTES}, {"CPU": 2, "memory": 99 * CELL_BYTES}, {"CPU": 0}
    engine = on("cpu", large, small, head)
    assert (engine.at_once, engine.nodes, engine.gpus) == (3 + 2, 2, ())
    assert on("cpu", large, small, jobs=4).at_once == 4
    gpu = {"CPU": 64, "memory": 99 * CELL_BYTES, "GPU": 1}
    engine = on("cuda", gpu, small, answer=(FAST,))
    assert (engine.at_once, engine.gpus) == (40, (FAST,))


def test_auto_is_a_gpu_where_the_cluster_has_one() -> None:
    """As on one machine."""
    node = {"CPU": 1, "memory": CELL_BYTES}
    assert on("auto", node).gpus == ()
    assert on("auto", {**node, "GPU": 1}, answer=(FAST,)).gpus == (FAST,)


def test_a_cluster_that_cannot_run_a_cell_is_an_error() -> None:
    """Ray itself would wait for ever."""
    with pytest.raises(CompatError, match="no node can run a cell, among 1 node with a core"):
        on("cpu", {"CPU": 1, "memory": CELL_BYTES / 2})
    with pytest.raises(CompatError, match="--device cuda, and no node has a GPU"):
        on("cuda", {"CPU": 1, "memory": CELL_BYTES})


def test_a_driver_that_does_not_answer_on_a_node_is_its_own_error() -> None:
    """It is not wrapped in an error of Ray."""
    failed = RayTaskError(GpuFailed("NVML: lost"))
    with pytest.raises(GpuFailed, match="NVML: lost"):
        on("cuda", {"CPU": 1, "memory": CELL_BYTES, "GPU": 1}, answer=failed)
