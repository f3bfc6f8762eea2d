"""A part on a node: its stacks leave rows, and other sources are refused. Ray is not needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from finetune_compat.contract.errors import CompatError, EnvironmentMismatch, ExitCode, InstallError, Unbuildable
from finetune_compat.contract.options import DeviceChoice
from finetune_compat.machine import child_processes
from finetune_compat.results.run_files import RowState, StackRow, read_rows, write_row
from finetune_compat.run import part_run
from finetune_compat.run.options import RunOptions
from finetune_compat.stacks.environments import Environment

OLD, NEW = (f"trl{minor}-py311/sft-full[qwen2-full-gc]@cpu" for minor in ("0.22", "0.24"))


def job(*cells: str, sources: str = "") -> part_run.Job:
    """Return a job for these cells."""
    options = RunOptions(device=DeviceChoice.CPU, cells=cells)
    return part_run.Job(sources or part_run.sources_here(), options)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_places: Any) -> Path:
    """Return the directory of the part. Each environment exists, and each stack runs its cells."""
    in_places(runs=tmp_path)
    monkeypatch.setenv("COMPAT_RUN_ID", "part")
    monkeypatch.setenv(child_processes.PARENT, "")
    environment = Environment("2.13.0", base_torch=False, reused=True)
    monkeypatch.setattr(part_run, "environment_of", lambda _: (tmp_path / "python", environment))

    def ran(plan: Any, *_: object) -> None:
        cells = tuple(plan.id_of(cell) for cell in plan.cells)
        write_row(Path(plan.run), StackRow(plan.stack, RowState.RAN, "", cells))

    monkeypatch.setattr(part_run.stack_run, "run_plan", ran)
    return tmp_path / "part"


def written(tmp_path: Path, job: part_run.Job) -> list[str]:
    """Write the job as the engine does; return the arguments of the process."""
    (tmp_path / "job.json").write_text(part_run.to_json(job), encoding="utf-8")
    return [str(tmp_path / "job.json")]


def test_each_stack_runs_its_cells_and_no_others(run: Path, tmp_path: Path) -> None:
    """The job says which."""
    assert part_run.main(written(tmp_path, job(OLD, NEW))) == 0
    assert read_rows(run) == (
        StackRow("trl0.22-py311", RowState.RAN, "", (OLD,)),
        StackRow("trl0.24-py311", RowState.RAN, "", (NEW,)),
    )


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (Unbuildable("no wheel"), RowState.UNINSTALLABLE),
        (InstallError("no interpreter"), RowState.INFRASTRUCTURE),
        (EnvironmentMismatch("extra"), RowState.INFRASTRUCTURE),
    ],
)
def test_an_environment_that_cannot_be_made_is_a_row(
    error: CompatError, state: RowState, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other stacks of the part run all the same."""
    usual: Callable[..., Any] = part_run.environment_of

    def made(lock: Any) -> Any:
        if lock.path.stem == "trl0.22-py311":
            raise error
        return usual(lock)

    monkeypatch.setattr(part_run, "environment_of", made)
    part_run.run_part(job(OLD, NEW))
    assert read_rows(run) == (
        StackRow("trl0.22-py311", state, error.what, ()),
        StackRow("trl0.24-py311", RowState.RAN, "", (NEW,)),
    )


def test_other_sources_are_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing runs."""
    assert part_run.main(written(tmp_path, job(OLD, sources="0.0.1 (0)"))) == ExitCode.BAD_INPUT
    assert f"this node has finetune-compat {part_run.sources_here()}, not 0.0.1 (0)\n" in capsys.readouterr().err
    assert not run.exists()


def test_sources_are_those_of_package_and_matrix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_places: Any
) -> None:
    """A change of a module, a row of the matrix or a lock changes them; another place does not."""
    found = []
    for number, changed in enumerate((None, None, "package/a.py", "matrices/stacks.toml", "matrices/locks/a.txt")):
        root = tmp_path / f"{number}"
        for name in ("package/a.py", "package/__pycache__/a.pyc", "matrices/stacks.toml", "matrices/locks/a.txt"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text("new" if name == changed else "old")
        (root / "package" / "__pycache__" / "a.pyc").write_text(f"{number}")
        monkeypatch.setattr(part_run, "PACKAGE", root / "package")
        in_places(matrices=root / "matrices")
        found.append(part_run.sources_here())
    assert found[0] == found[1]
    assert len(set(found)) == 4
