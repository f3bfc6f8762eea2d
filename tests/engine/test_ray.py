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


def test_a_lost_node_costs_what_was_in_flight(nodes: Nodes, tmp_path: Path) -> None:
    """The other node runs the rest, and the report is that of a whole run. No store serves what is repeated."""
    process = nodes.run(tmp_path, "--fresh")
    wait_for(lambda: sum(event == "ends" and node == "two" for event, _, node in nodes.log()) >= 3)
    nodes.kill("two")
    code, output = ended(process)
    assert code == 0, output
    run = (tmp_path / "out" / "latest").resolve()
    assert observation_lines(run).keys() == selected(run)
    assert len({row.name for row in read_rows(run)}) == len(STACKS)
    log = nodes.log()
    began = Counter(cell for event, cell, _ in log if event == "begins")
    assert began.keys() == selected(run)
    again = {cell for cell, times in began.items() if times > 1}
    # One ran when the node was lost; the one before may have ended a moment ago, and not have been delivered.
    assert len(again) <= 2
    assert all(began[cell] == 2 for cell in again)
    assert again <= {cell for _, cell, node in log if node == "two"}
    assert len({node for _, _, node in log}) == 2


def test_an_interrupted_run_is_resumed(nodes: Nodes, tmp_path: Path) -> None:
    """What came back is cached where the run was asked for, and its processes on the nodes have ended."""
    for store in nodes.folder.glob("store-*"):
        shutil.rmtree(store)
    process = nodes.run(tmp_path)
    wait_for(lambda: sum(event == "ends" for event, _, _ in nodes.log()) >= 4)
    process.send_signal(signal.SIGTERM)
    code, output = ended(process)
    assert code == 128 + signal.SIGTERM, output
    before = nodes.log()
    time.sleep(1.5)  # three cells
    assert nodes.log() == before
    done = len(observation_lines((tmp_path / "out" / "latest").resolve()))
    assert f"interrupted: {done} of " in output
    code, output = ended(nodes.run(tmp_path))
    assert code == 0, output
    assert f": {done} cached, " in output
    whole = selected((tmp_path / "out" / "latest").resolve())
    began = Counter(cell for event, cell, _ in nodes.log() if event == "begins")
    assert began.keys() == whole
    # On each of two nodes one ran, and one may have ended and not been delivered.
    assert sum(began.values()) - len(whole) <= 4


def test_a_node_with_other_sources_is_refused(nodes: Nodes, tmp_path: Path, other_package: Callable[[], Path]) -> None:
    """It would measure something else. Nothing is written."""
    nodes.add("other", PYTHONPATH=str(other_package()))
    code, output = ended(nodes.run(tmp_path))
    assert code == 4, output
    assert ": this node has finetune-compat 0.1.0 (" in output
    assert output.endswith("Install the same commit on every node, in the Python that runs Ray there.\n")
    assert not (tmp_path / "out").exists()
    assert nodes.log() == []
