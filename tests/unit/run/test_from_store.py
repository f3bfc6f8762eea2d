"""What a session reads from the store, and what its cells add to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import builders as b
import fsspec
import pytest
from builders import NF4, UNLISTED
from finetune_compat.cell import storing
from finetune_compat.checks import Outcome, Symptom, Verdict
from finetune_compat.contract.errors import CompatError
from finetune_compat.contract.plan import Plan, PlannedCell, read_plan
from finetune_compat.contract.records import Observation, Precision, to_json
from finetune_compat.machine.gpus import Gpu
from finetune_compat.results.run_files import judged, read_observations, read_rows
from finetune_compat.run import from_store, stack_run
from finetune_compat.run.options import parse_options
from finetune_compat.run.stack_run import run_plan
from finetune_compat.stacks.locks import Lock
from finetune_compat.store import stored_files
from finetune_compat.store.addresses import Installed
from finetune_compat.store.remote import StoreUnreachable
from store_builders import planned, store, stored_object

FLOWS = ("sft-peft-config", "sft-full", "trainer-peft-model")
FULL = replace(NF4, precision=Precision.FULL)
CELLS = tuple(PlannedCell(flow, FULL if flow == "sft-full" else NF4, ()) for flow in FLOWS)
PYTHON = Path("/env/bin/python")
LOCK = Lock(Path("lock.txt"), "0" * 64, {}, {})


class Process:
    """A stand-in for the cells' process: it selects from its plan, runs missing cells, and stores observations."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.number = 0
        self.dies_after = 99
        self.verdict = Outcome.PASS

    def run(self, command: Sequence[str], **_: object) -> SimpleNamespace:
        self.number += 1
        plan = read_plan(Path(command[command.index("--plan") + 1]))
        part = command[command.index("-k") + 1] if "-k" in command else ""
        cells = [cell for cell in plan.cells if part in str(cell)]
        plan.selected_file.parent.mkdir(exist_ok=True)
        plan.selected_file.write_text("".join(f"{plan.id_of(cell)}\n" for cell in cells))
        for cell in [cell for cell in cells if not cell.stored][: self.dies_after]:
            self.ran.append(cell.flow)
            self._observe(plan, cell)
        return SimpleNamespace(returncode=0)

    def _observe(self, plan: Plan, cell: PlannedCell) -> None:
        found = observed(plan, cell, number=self.number)
        storing.keep(plan, cell, found, Verdict(found.cell, self.verdict, "", Symptom.UNKNOWN))
        with (Path(plan.run) / "observations.jsonl").open("a") as file:
            file.write(f"{to_json(found)}\n")


def observed(plan: Plan, cell: PlannedCell, *, number: int = 0) -> Observation:
    """Return an observation that agrees with the cell's recipe."""
    assert cell.recipe is not None
    found = b.healthy(cell.flow, cell.variant, stack=plan.stack)
    stack = replace(
        found.stack,
        python=cell.recipe.python,
        base_torch=plan.base_torch,
        lock_sha256=plan.lock_sha256,
        resolved={**found.stack.resolved, "torch": cell.recipe.torch},
    )
    device = replace(found.device, features=cell.recipe.features)
    return replace(found, stack=stack, device=device, seed=plan.seed, duration_s=float(number))


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Process:
    """Cells without a stack, in an environment without files."""
    stand_in = Process()
    monkeypatch.setattr(stack_run.subprocess, "run", stand_in.run)
    # The host's modules are loaded in this process too.
    monkeypatch.setattr(
        storing, "sys", SimpleNamespace(modules={"finetune_compat": 1, "finetune_compat.cell.runner": 1})
    )
    monkeypatch.setattr(from_store, "installed", lambda *_: Installed("3.11.7", "2.13.0+cpu", triton=True))
    return stand_in


def session(run: Path, *arguments: str, cells: tuple[PlannedCell, ...] = CELLS) -> Plan:
    """One session of a stack with these cells, in a new run."""
    run.mkdir()
    plan = replace(planned(run, *cells), run=str(run))
    run_plan(plan, LOCK, PYTHON, (), parse_options(arguments))
    return plan


def test_the_second_session_runs_nothing_and_has_the_same_result(
    process: Process, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No process starts; the second run has every observation, judged the same."""
    session(tmp_path / "one")
    assert capsys.readouterr().out == f"store: 0 of 3 cells are cached in {store().root}, 3 to run\n"
    session(tmp_path / "two")
    assert capsys.readouterr().out == f"store: 3 of 3 cells are cached in {store().root}, 0 to run\n"
    assert (process.number, process.ran) == (1, list(FLOWS))
    one, two = judged(tmp_path / "one", UNLISTED), judged(tmp_path / "two", UNLISTED)
    assert (one.verdicts, one.observations) == (two.verdicts, two.observations)
    assert len(two.observations) == 3


def test_an_interrupted_session_repeats_nothing(process: Process, tmp_path: Path) -> None:
    """Finished cells are cached, the others run."""
    process.dies_after = 2
    session(tmp_path / "one")
    process.dies_after = 99
    session(tmp_path / "two")
    assert process.ran == list(FLOWS)
    assert len(judged(tmp_path / "two", UNLISTED).observations) == 3


def test_a_selection_is_all_there_is_in_the_run(process: Process, tmp_path: Path) -> None:
    """`-k` selects cached cells as it selects others."""
    session(tmp_path / "one")
    plan = session(tmp_path / "two", "-k", "sft-full")
    [row] = read_rows(tmp_path / "two")
    assert row.selected == (plan.id_of(CELLS[1]),)
    assert read_observations(tmp_path / "two" / "observations.jsonl")[1].keys() == {plan.id_of(CELLS[1])}
    assert process.number == 1


def test_other_selections_are_left_to_pytest(process: Process, tmp_path: Path) -> None:
    """It omits cached cells, and the host still adds them."""
    session(tmp_path / "one")
    session(tmp_path / "two", "-p", "no:x")
    assert (process.number, process.ran) == (2, list(FLOWS))
    assert len(judged(tmp_path / "two", UNLISTED).observations) == 3


def test_a_selection_of_nothing_is_still_bad_input(process: Process, tmp_path: Path) -> None:
    """This also holds if all cells are cached."""
    session(tmp_path / "one")
    with pytest.raises(CompatError, match="no cell matches"):
        session(tmp_path / "two", "-k", "nonesuch")


def test_fresh_runs_again_and_replaces_the_result(
    process: Process, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both observations are stored; the later one is returned."""
    session(tmp_path / "one")
    capsys.readouterr()
    session(tmp_path / "two", "--fresh")
    assert capsys.readouterr().out == (
        f"store: cached results are ignored (--fresh), 3 cells to run; their results are stored in {store().root}\n"
    )
    session(tmp_path / "three")
    assert (process.number, process.ran) == (2, [*FLOWS, *FLOWS])
    assert {seen.duration_s for seen in judged(tmp_path / "three", UNLISTED).observations.values()} == {2.0}
    assert sorted(len(names) for names in stored_files.names(store().root).values()) == [2, 2, 2]


@pytest.mark.parametrize("option", [("--steps", "20"), ("--attention", "eager")])
def test_another_recipe_finds_nothing(process: Process, tmp_path: Path, option: tuple[str, ...]) -> None:
    """Only observations of the same recipe are returned."""
    one = session(tmp_path / "one")
    changed = {"steps": 20} if option[0] == "--steps" else {"attention": "eager"}
    (tmp_path / "two").mkdir()
    found = from_store.look_up(replace(one, run=str(tmp_path / "two"), **changed), LOCK, PYTHON, ())  # type: ignore[arg-type]
    assert found.answers == {}


def test_infrastructure_failures_are_never_stored(process: Process, tmp_path: Path) -> None:
    """They are no facts about the versions: the next session runs the cells."""
    process.verdict = Outcome.INFRASTRUCTURE
    session(tmp_path / "one")
    assert stored_files.names(store().root) == {}
    session(tmp_path / "two")
    assert process.ran == [*FLOWS, *FLOWS]


def test_failures_of_versions_are_stored(process: Process, tmp_path: Path) -> None:
    """A failed cell fails again without running."""
    process.verdict = Outcome.FAIL
    session(tmp_path / "one")
    assert {past.outcome for past in store().history().values()} == {"fail"}
    session(tmp_path / "two")
    assert process.ran == list(FLOWS)


def test_several_workers_get_the_longest_cells_first(
    process: Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The durations are those of stored cells, whatever has changed since."""
    took = dict(zip(FLOWS, (2.0, 9.0, 5.0), strict=True))
    plan = planned(tmp_path, *CELLS)
    for cell in CELLS:
        found = replace(b.healthy(cell.flow, cell.variant, stack=plan.stack), duration_s=took[cell.flow])
        stored_files.write(store().root, stored_object(found))
    assert [cell.flow for cell in from_store.longest_first(plan).cells] == ["sft-full", "trainer-peft-model", FLOWS[0]]
    two = [Gpu(index, None, f"GPU-{index}", f"GPU-{index}", "NVIDIA H100", 80 * 2**30, 0) for index in range(2)]
    (tmp_path / "run").mkdir()
    on_gpus = replace(plan, run=str(tmp_path / "run"))
    run_plan(on_gpus, LOCK, PYTHON, two, parse_options(()))
    assert process.ran == ["sft-full", "trainer-peft-model", FLOWS[0]]


# ---------------------------------------------------------------------------------------------------------- not kept


def test_each_reason_for_storing_nothing_is_printed_once(
    process: Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The host prints them after the table."""
    monkeypatch.setattr(storing, "contradiction", lambda *_: "torch 2.14.0, expected 2.13.0+cpu")
    session(tmp_path / "one")
    assert capsys.readouterr().out.splitlines()[1:] == [
        "store: 3 observations not stored: torch 2.14.0, expected 2.13.0+cpu"
    ]


# ------------------------------------------------------------------------------------------------------ a shared store


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A shared store."""
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    monkeypatch.setenv("COMPAT_STORE_REMOTE", "memory://team")
    yield "memory://team"
    fs.store.clear()


def test_another_machine_runs_nothing(
    process: Process, tmp_path: Path, shared: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cells that one machine ran are cached on the other."""
    session(tmp_path / "one")
    monkeypatch.setenv("COMPAT_STORE", str(tmp_path / "other"))
    capsys.readouterr()
    session(tmp_path / "two")
    assert process.number == 1
    assert capsys.readouterr().out == f"store: 3 of 3 cells are cached in {tmp_path}/other and {shared}, 0 to run\n"


def test_a_shared_store_that_cannot_be_written_to_loses_nothing(
    process: Process, tmp_path: Path, shared: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run ends normally; its cells are in the local store and are sent later."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("read only")

    with monkeypatch.context() as context:
        context.setattr(fsspec.implementations.memory.MemoryFileSystem, "pipe", refuse)
        session(tmp_path / "one")
    assert "the shared store cannot be written to: PermissionError: read only" in capsys.readouterr().out
    assert len(judged(tmp_path / "one", UNLISTED).observations) == 3
    assert store().push() == 3


def test_a_shared_store_out_of_reach_stops_before_anything_runs(
    process: Process, tmp_path: Path, shared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No row of an unfinished session is written."""

    def fail(*_: object, **__: object) -> None:
        raise TimeoutError("no route")

    monkeypatch.setattr(fsspec.implementations.memory.MemoryFileSystem, "find", fail)
    with pytest.raises(StoreUnreachable):
        session(tmp_path / "one")
    assert process.number == 0
    assert list((tmp_path / "one").iterdir()) == []


def test_observations_that_were_not_stored_are_named_for_all_stacks(tmp_path: Path) -> None:
    """`compat run` prints them after its last session: they are run again next time."""
    for name, text in (("a", "a/x: disk full\na/y: disk full\n"), ("b", "b/x: disk full\nb/y: torch 2, expected 1\n")):
        (tmp_path / f"{name}.txt").write_text(text)
    assert from_store.not_stored([tmp_path / "a.txt", tmp_path / "b.txt", tmp_path / "none.txt"]) == [
        "store: 3 observations not stored: disk full",
        "store: 1 observation not stored: torch 2, expected 1",
    ]
