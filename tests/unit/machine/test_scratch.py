"""Scratch space of cells is removed with the process that provided it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from finetune_compat.machine.places import PACKAGE
from finetune_compat.machine.scratch import held, sweep

ROOT = PACKAGE.parents[1]

HOLD = """
import sys, time
from pathlib import Path
from finetune_compat.machine.scratch import held
folder = Path(sys.argv[1])
with held(folder, folder.parent.parent.parent):
    (folder / "model.safetensors").write_text("gigabytes")
    print("held", flush=True)
    time.sleep(60)
"""


@contextlib.contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process with scratch space in `folder`; killed at the end."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("raising", [False, True])
def test_scratch_space_is_removed_when_its_process_ends(tmp_path: Path, raising: bool) -> None:
    """However the process ends, no file of it remains in the run."""
    folder = tmp_path / "one" / "scratch" / "trl0.22-py311"
    ends = pytest.raises(KeyboardInterrupt) if raising else contextlib.nullcontext()
    with ends, held(folder, tmp_path):
        (folder / "outputs").mkdir()
        if raising:
            raise KeyboardInterrupt
    assert list((tmp_path / "one").iterdir()) == []


def test_files_of_a_killed_process_are_removed_before_the_next_cells(tmp_path: Path) -> None:
    """This also holds in another run; only the kernel knows that the process ended."""
    left = tmp_path / "one" / "scratch" / "trl0.22-py311"
    with holder(left) as process:
        process.kill()
    assert (left / "model.safetensors").exists()
    with held(tmp_path / "two" / "scratch" / "trl0.23-py311", tmp_path):
        assert not left.parent.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_scratch_space_of_a_running_process_is_not_removed(tmp_path: Path) -> None:
    """Sessions run in parallel."""
    folder = tmp_path / "one" / "scratch" / "trl0.22-py311"
    with holder(folder):
        sweep(tmp_path)
        with held(tmp_path / "one" / "scratch" / "trl0.23-py311", tmp_path):
            pass
        assert (folder / "model.safetensors").exists()
