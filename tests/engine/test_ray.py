"""A real Ray cluster: nothing is lost, nothing runs twice beyond what was in flight, and a run is resumed."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from conftest import STACKS, Nodes
from finetune_compat.results.run_files import observation_lines, read_rows

PATIENCE_S = 240.0
"""Seconds in which something must happen on a loaded machine."""


def wait_for(condition: Callable[[], bool]) -> None:
    """Return as soon as `condition` holds."""
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Return the exit code and the output."""
    output, _ = process.communicate(timeout=2 * PATIENCE_S)
    return process.returncode, output


def selected(run: Path) -> set[str]:
    """Return the cells of all rows."""
    return {cell for row in read_rows(run) for cell in row.selected}


def came_back(run: Path) -> set[str]:
    """Return the cells whose observation is in the run."""
    return set(observation_lines(run))


def twice(nodes: Nodes) -> set[str]:
    """Return the cells that began more than once."""
    began = Counter(cell for event, cell, _ in nodes.log() if event == "begins")
    return {cell for cell, times in began.items() if times > 1}


def test_a_lost_node_costs_what_was_in_flight(nodes: Nodes, tmp_path: Path) -> None:
    """The other node runs the rest, and the report is that of a whole run. No store serves what is repeated."""
    process, latest = nodes.run(tmp_path, "--fresh"), tmp_path / "out" / "latest"

    def on_two() -> set[str]:
        return {cell for _, cell, node in nodes.log() if node == "two"}

    def in_the_middle() -> bool:
        """Whether some cells of the node came back, and one runs on it."""
        back, there = came_back(latest), on_two()
        return len(back & there) >= 3 and bool(there - back)

    wait_for(in_the_middle)
    before = came_back(latest)
    nodes.kill("two")
    code, output = ended(process)
    assert code == 0, output
    assert came_back(latest) == selected(latest)
    assert len(read_rows(latest.resolve())) == len(STACKS)
    assert {cell for _, cell, _ in nodes.log()} == selected(latest)
    assert twice(nodes) <= on_two() - before


def test_an_interrupted_run_is_resumed(nodes: Nodes, tmp_path: Path) -> None:
    """What came back is cached where the run was asked for, and its processes on the nodes have ended."""
    for store in nodes.folder.glob("store-*"):
        shutil.rmtree(store)
    process, latest = nodes.run(tmp_path), tmp_path / "out" / "latest"
    wait_for(lambda: len(came_back(latest)) >= 4)
    process.send_signal(signal.SIGTERM)
    code, output = ended(process)
    assert code == 128 + signal.SIGTERM, output
    log, done = nodes.log(), came_back(latest)
    time.sleep(1.5)  # three cells
    assert nodes.log() == log
    assert f"interrupted: {len(done)} of " in output
    code, output = ended(nodes.run(tmp_path))
    assert code == 0, output
    assert f": {len(done)} cached, " in output
    assert came_back(latest) == selected(latest)
    assert {cell for _, cell, _ in nodes.log()} == selected(latest)
    assert not twice(nodes) & done


def test_a_node_with_other_sources_is_refused(nodes: Nodes, tmp_path: Path, other_package: Callable[[], Path]) -> None:
    """It would measure something else. Nothing is written."""
    nodes.add("other", PYTHONPATH=str(other_package()))
    code, output = ended(nodes.run(tmp_path))
    assert code == 4, output
    assert ": this node has finetune-compat 0.1.0 (" in output
    assert output.endswith("Install the same commit on every node, in the Python that runs Ray there.\n")
    assert not (tmp_path / "out").exists()
    assert nodes.log() == []
