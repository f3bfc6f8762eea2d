"""The engine of a Ray cluster: parts of the cells are Ray tasks, and their observations come back while they run.

Ray places the tasks. A part whose node was lost is submitted again with the cells that did not come back. Each
observation is also added to the store of this machine, so that an interrupted run is resumed as on one machine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.contract.errors import CompatError, ExitCode, why
from finetune_compat.contract.options import DeviceChoice
from finetune_compat.contract.plan import read_plan
from finetune_compat.contract.records import Started
from finetune_compat.contract.redaction import redact
from finetune_compat.machine import child_processes
from finetune_compat.machine.capacity import CELL_BYTES
from finetune_compat.machine.gpus import CELL_BYTES as CELL_GPU_BYTES
from finetune_compat.machine.gpus import Gpu
from finetune_compat.machine.places import OUT, places, short_path
from finetune_compat.machine.units import counted
from finetune_compat.results.run_files import RowState, StackRow, cell_of, read_record, read_rows, write_row
from finetune_compat.run import part_run, stack_run
from finetune_compat.run.options import RunOptions
from finetune_compat.run.parts import Part, by_stack, merged_row
from finetune_compat.run.progress import Follower, Progress
from finetune_compat.run.request import RunRequest
from finetune_compat.stacks.supply import REGISTRY
from finetune_compat.store import stored_files
from finetune_compat.store.store import SHARED, Store

WHERE = "--engine ray"
"""The `where` of errors."""

LOSSES = 3
"""Times that a part may be lost in a row without any cell that comes back. Then its cells are infrastructure."""

POLL_EVERY_S = 0.25
"""Seconds between two deliveries of a task."""

PATIENCE_S = 10.0
"""Seconds in which a cancelled task can end its processes and remove its files, before Ray kills it."""

KNOCK_S = 10.0
"""Seconds in which the head node must accept a connection."""

RAY_LOG = "ray.log"
"""File in the run's directory with the output of the parts."""

_OUTPUT = 20_000
"""Characters of a part's output that come back."""


class ClusterLost(CompatError):
    """The cluster was lost while it ran cells. Nothing follows about the versions."""

    exit_code = ExitCode.COULD_NOT_TELL


@contextlib.contextmanager
def connected(request: RunRequest) -> Iterator[RayEngine]:
    """Connect to the cluster of `request`, and disconnect on exit.

    Raises:
        CompatError: Ray is not installed or does not answer, an option does not go with it, no node can run a cell,
            or a node has other sources of this package.
        ClusterLost: the cluster was lost.
    """
    _refuse(request)
    ray = _imported()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = request.address or os.environ.get("RAY_ADDRESS", "")
    try:
        _knock(address)
        ray.init(address=address or None, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, OSError, RuntimeError) as error:
        raise CompatError(
            f"no cluster answers: {why(error)}",
            where=f"{WHERE} --address {address}" if address else WHERE,
            meaning="The address is that of the head node, for example 10.0.0.1:6379, and Ray must have the same "
            "version there.",
            todo="`ray status --address ADDRESS` on this machine shows whether the cluster answers.",
        ) from None
    try:
        _refuse_other_sources(ray)
        yield RayEngine(ray, request)
    except ray.exceptions.RayError as error:
        raise ClusterLost(
            f"the cluster no longer answers: {type(error).__name__}",
            where=WHERE,
            meaning="The head node or the node of this process was lost, or Ray was stopped.",
            todo="Run the same command again to resume: what came back is cached.",
        ) from None
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise an OSError if nothing listens at `address`: Ray would try for minutes. Names such as `auto` are Ray's."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), KNOCK_S).close()


def _imported() -> Any:
    try:
        import ray
        import ray.exceptions
        import ray.util.queue
    except ImportError:
        raise CompatError(
            "Ray is not installed",
            where=WHERE,
            meaning="Only this option needs it, so it is an extra of this package.",
            todo="pip install 'finetune-compat[host,ray]', or pip install -e '.[host,ray]' in a checkout.",
        ) from None
    return ray


def _refuse(request: RunRequest) -> None:
    if request.options.supply != REGISTRY:
        raise CompatError(
            "--offline, --wheelhouse, --base-python and --base-torch name what is on this machine",
            where=WHERE,
            meaning="Each node makes the environments of its stacks itself, from its own package registry.",
            todo="Configure uv on the nodes (UV_OFFLINE, UV_FIND_LINKS, UV_DEFAULT_INDEX).",
        )


def _refuse_other_sources(ray: Any) -> None:
    """Raise an error if a node that can run cells has other sources. Tasks check the nodes that join later."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here, asked = part_run.sources_here(), {}
    for node in ray.nodes():
        if node["Alive"] and node["Resources"].get("CPU", 0) >= 1:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            task = ray.remote(part_run.sources_here).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
            asked[task.remote()] = node["NodeManagerAddress"]
    for answer, address in asked.items():
        try:
            found = ray.get(answer)
        except ray.exceptions.RayTaskError as error:
            raise _no_package(address, error) from None
        except ray.exceptions.RayError:
            continue  # the node was lost meanwhile
        if found != here:
            raise part_run.other_sources(f"{WHERE}, node {address}", found, here)


def _no_package(where: str, error: Exception) -> CompatError:
    return CompatError(
        f"finetune-compat cannot be used there: {str(error).strip().splitlines()[-1]}",
        where=f"{WHERE}, node {where}",
        meaning="It is not installed in the Python that runs Ray on this node, or has another version.",
        todo="Install the same commit with the extras host and ray on every node.",
    )


@dataclass(frozen=True, slots=True)
class Needs:
    """What Ray reserves for a part."""

    cpus: int
    memory: int | None
    gpus: float

    def options(self) -> dict[str, Any]:
        """Options of a Ray task. Ray must not repeat it: this module does, without the cells that came back."""
        return {"num_cpus": self.cpus, "num_gpus": self.gpus, "memory": self.memory, "max_retries": 0}


def needs_of(options: RunOptions, gpus: Sequence[Gpu], smallest: int) -> Needs:
    """What a part needs: tiny cells one core, and as much of a GPU as they take of its memory; real weights a GPU, or
    all cores of a node. `smallest` is the number of cores of the smallest node.
    """
    if options.model is not None:
        return Needs(1, None, 1.0) if gpus else Needs(smallest, None, 0.0)
    # Ray counts a GPU in steps of 0.0001.
    share = min((math.ceil(10_000 * CELL_GPU_BYTES / gpu.total) / 10_000 for gpu in gpus), default=0.0)
    return Needs(1, CELL_BYTES, min(1.0, share))


class RayEngine:
    """Runs cells on the nodes of a cluster."""

    def __init__(self, ray: Any, request: RunRequest) -> None:
        self._ray, self._request = ray, request
        self.gpus = self._gpus()
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
        self.nodes = len(nodes)
        smallest = min((int(node["CPU"]) for node in nodes), default=0)
        self.needs = needs_of(request.options, self.gpus, smallest)
        self.at_once = sum(map(self._fitting, nodes))
        self.splits = True
        if not self.at_once:
            raise CompatError(
                f"no node can run a cell, among {counted(len(nodes), 'node')} with a core",
                where=WHERE,
                meaning=f"A part needs {self.needs}.",
                todo="`ray status` shows what the nodes have.",
            )
        if request.jobs is not None:
            self.at_once = min(self.at_once, request.jobs)

    def start(self, run: Path, seconds: Mapping[str, float]) -> RayRunning:
        """Submit the cells in parts, the longest first."""
        parts = by_stack(seconds, self.at_once)
        device = DeviceChoice.CUDA if self.gpus else DeviceChoice.CPU
        job = part_run.Job(part_run.sources_here(), dataclasses.replace(self._request.options, device=device))
        how = f"{counted(len(parts), 'part')}, {self.at_once} in parallel on {counted(self.nodes, 'node')}"
        return RayRunning(self._ray, run, parts, job, self.needs, self._request.jobs or len(parts), how)

    def _gpus(self) -> tuple[Gpu, ...]:
        """The GPU of some node, as all are taken to be; empty for the CPU."""
        options = self._request.options
        there = self._ray.cluster_resources().get("GPU", 0) > 0
        if options.device is DeviceChoice.CPU or (options.device is DeviceChoice.AUTO and not there):
            return ()
        if not there:
            raise CompatError(
                "--device cuda, and no node has a GPU",
                where=WHERE,
                meaning="Ray counts the GPUs that it finds when a node starts, or that --num-gpus names.",
                todo="`ray status` shows the GPUs. Use --device cpu, or add a node.",
            )
        one = dataclasses.replace(options, gpus=dataclasses.replace(options.gpus, most=1))
        task = self._ray.remote(stack_run.chosen_gpus).options(num_cpus=0, num_gpus=0.0001)
        try:
            found: tuple[Gpu, ...] = self._ray.get(task.remote(one, WHERE))
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None
        return found

    def _fitting(self, node: Mapping[str, float]) -> int:
        """Parts that fit on a node at once."""
        wanted = {"CPU": self.needs.cpus, "memory": self.needs.memory, "GPU": self.needs.gpus}
        return int(min(node.get(name, 0) / amount for name, amount in wanted.items() if amount))


@dataclass(slots=True)
class _Submitted:
    """A part that runs, or waits for a core."""

    part: Part
    losses: int = 0
    """Times in a row that it was lost, and no cell came back."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a task delivers while it runs."""

    lines: tuple[str, ...]
    files: tuple[tuple[str, bytes], ...]
    """Names and contents of files of the node's store."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a task ended."""

    node: str
    status: int
    rows: tuple[StackRow, ...]
    output: str


class RayRunning:
    """Parts that run on the cluster."""

    def __init__(
        self, ray: Any, run: Path, parts: Sequence[Part], job: part_run.Job, needs: Needs, most: int, how: str
    ) -> None:
        self._ray, self._run, self._job, self._needs, self._most = ray, run, job, needs, most
        self._store = Store.configured()
        self._observed: set[str] = set()
        self._rows: dict[str, list[StackRow]] = {}
        self._waiting = [_Submitted(part) for part in parts]
        self._tasks: dict[Any, _Submitted] = {}
        self._parts = Counter(stack for part in parts for stack in part.stacks)
        self.how = f"{how}, output: {short_path(run / RAY_LOG)}"
        self._inbox = self._new_inbox()
        self._submit()

    def over(self) -> bool:
        """Whether every part has ended or is lost for good.

        Raises:
            CompatError: a node has other sources of this package.
        """
        self._receive()
        tasks = list(self._tasks)
        ended, _ = self._ray.wait(tasks, num_returns=len(tasks), timeout=0) if tasks else ([], [])
        for task in ended:
            self._take(task)
        self._submit()
        return not self._tasks and not self._waiting

    def share(self, progress: Progress) -> None:
        """The parts of a stack are on the cores that Ray found for them."""

    def stop(self) -> None:
        """Cancel the tasks, and receive what they delivered."""
        self._waiting.clear()
        for task in self._tasks:
            self._ray.cancel(task)
        if self._tasks:
            _, alive = self._ray.wait(list(self._tasks), num_returns=len(self._tasks), timeout=PATIENCE_S)
            for task in alive:
                self._ray.cancel(task, force=True)
            self._tasks.clear()
        self._receive()
        self._inbox.shutdown(force=True)

    def _new_inbox(self) -> Any:
        """A queue on the node of this process: it lives as long as the run."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(self._ray.get_runtime_context().get_node_id(), soft=False)
        return self._ray.util.queue.Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})

    def _submit(self) -> None:
        while self._waiting and len(self._tasks) < self._most:
            submitted = self._waiting.pop(0)
            options = dataclasses.replace(self._job.options, cells=submitted.part.cells)
            job = part_run.to_json(dataclasses.replace(self._job, options=options))
            task = self._ray.remote(run_part).options(**self._needs.options())
            remote = os.environ.get(SHARED, "")
            self._tasks[task.remote(job, self._inbox, self._needs.cpus, remote)] = submitted

    def _receive(self) -> None:
        """Append what was delivered to the run, and add it to the store of this machine."""
        deliveries: list[Delivery] = []
        while size := self._inbox.qsize():
            deliveries += self._inbox.get_nowait_batch(size)
        lines = [line for delivery in deliveries for line in delivery.lines]
        with (self._run / "observations.jsonl").open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
        self._observed |= {cell_of(line) for line in lines if _has_ended(line)}
        for name, content in (file for delivery in deliveries for file in delivery.files):
            # Its name is checked with its content before it becomes part of a path.
            with contextlib.suppress(stored_files.Damaged, OSError):
                stored_files.parsed(name, content)
                stored_files.write_content(self._store.root, name, content)

    def _take(self, task: Any) -> None:
        submitted = self._tasks.pop(task)
        try:
            ended: Ended = self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            cause = getattr(error, "cause", error)
            if isinstance(error, self._ray.exceptions.RayTaskError) and not isinstance(cause, OSError):
                raise _no_package("of a part", error) from None
            self._receive()
            self._lost(submitted, type(cause).__name__)
            return
        self._receive()
        with (self._run / RAY_LOG).open("a", encoding="utf-8") as log:
            log.write(f"--- {ended.node}: {', '.join(submitted.part.stacks)}\n{ended.output}\n")
        if ended.status == ExitCode.BAD_INPUT:
            raise CompatError(ended.output.strip(), where=f"{WHERE}, node {ended.node}")
        reason = f"its part ended with status {ended.status} on {ended.node}: see {RAY_LOG}"
        found = {row.name: row for row in ended.rows}
        self._end([found.get(name) or _failed(name, reason) for name in submitted.part.stacks])

    def _lost(self, submitted: _Submitted, error: str) -> None:
        """Submit again what did not come back, unless the part was lost too often."""
        cells = tuple(cell for cell in submitted.part.cells if cell not in self._observed)
        losses = submitted.losses + 1 if len(cells) == len(submitted.part.cells) else 1
        done = set(submitted.part.stacks) - {parse_cell(cell).stack for cell in cells}
        self._end([StackRow(name, RowState.RAN, "", ()) for name in done])
        rest = Part(cells, submitted.part.seconds)
        if losses < LOSSES and cells:
            self._waiting.insert(0, _Submitted(rest, losses))
            return
        reason = f"its node was lost {counted(losses, 'time')} ({error})"
        self._end([_failed(name, reason) for name in rest.stacks])

    def _end(self, rows: Sequence[StackRow]) -> None:
        """Note the rows of a part. When all parts of a stack have ended, write its row into the run."""
        selected = {row.name: row.selected for row in read_rows(self._run)}
        for row in rows:
            self._rows.setdefault(row.name, []).append(row)
            if len(self._rows[row.name]) == self._parts[row.name]:
                write_row(self._run, merged_row(row.name, self._rows[row.name], selected.get(row.name, ())))


def _failed(stack: str, reason: str) -> StackRow:
    return StackRow(stack, RowState.INFRASTRUCTURE, reason, ())


def _has_ended(line: str) -> bool:
    """Whether the cell of `line` was observed, or was ended by a limit or a crash."""
    if '"started":' not in line:
        return True
    record = read_record(line, "a delivery")
    return isinstance(record, Started) and record.end is not None


# ------------------------------------------------------------------------------------------------------- on a node


def run_part(job: str, inbox: Any, threads: int, remote: str) -> Ended:
    """Run a part in a process of its own, and deliver its observations while it runs. The body of a Ray task.

    Args:
        job: `part_run.Job` as JSON.
        inbox: the queue of the run.
        threads: OMP_NUM_THREADS of the cells.
        remote: URL of the shared store; empty if the machine that asks has none.
    """
    with tempfile.TemporaryDirectory(prefix="compat-part-") as name:
        folder = Path(name)
        (folder / "job.json").write_text(job, encoding="utf-8")
        run, log = folder / "runs" / "part", folder / "log.txt"
        child_processes.adopt()
        environ = {**os.environ, OUT: str(run.parent), stack_run.RUN_ID: run.name, "OMP_NUM_THREADS": f"{threads}"}
        environ |= {SHARED: remote} if remote else {}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", part_run.__name__, str(folder / "job.json")],
                env=environ,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            _deliver(process, run, inbox)
        finally:
            child_processes.end_tree(process, f"{OUT}={run.parent}")
        text = redact(log.read_text(encoding="utf-8", errors="replace"))
        return Ended(_node(), process.wait(), read_rows(run), text[-_OUTPUT:])


def _deliver(process: subprocess.Popen[bytes], run: Path, inbox: Any) -> None:
    """Deliver the lines of `run`, and the files of the store of their cells, until `process` has ended."""
    follower, sent = Follower(run / "observations.jsonl"), set[str]()
    while True:
        over = process.poll() is not None  # polled first, so that everything written before the end is read
        lines = tuple(line.rstrip("\n") for line in follower.lines())
        if lines or over:
            files = tuple(_files(run, sent))
            inbox.put(Delivery(lines, files))
        if over:
            return
        time.sleep(POLL_EVERY_S)


def _files(run: Path, sent: set[str]) -> Iterator[tuple[str, bytes]]:
    """The files of the store at the addresses of this part's cells that are not in `sent`, which they join."""
    plans = [read_plan(path) for path in (run / "plans").glob("*.json")]
    addresses = {cell.recipe.address for plan in plans for cell in plan.cells if cell.recipe}
    root = places().store
    for name in (name for names in stored_files.names(root, addresses).values() for name in names):
        if name not in sent:
            sent.add(name)
            yield name, stored_files.path_of(root, name).read_bytes()


def _node() -> str:
    import ray

    address: str = ray.util.get_node_ip_address()
    return address
