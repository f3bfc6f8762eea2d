"""Which runs a sweep over seeds needs, and that finished runs are not repeated."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import builders as b
import deep_builders as d
import pytest
from finetune_compat import nox_session
from finetune_compat.cell import sweep as cell_side
from finetune_compat.checks.ledger import Ledger
from finetune_compat.contract import catalog
from finetune_compat.contract.errors import CompatError
from finetune_compat.contract.plan import Plan, PlannedCell
from finetune_compat.contract.records import DeviceKind, Observation, to_json
from finetune_compat.contract.seeds import Seeds
from finetune_compat.evidence import calibration, sweeps
from finetune_compat.evidence.calibration import Sweep
from finetune_compat.run import stack_run
from finetune_compat.stacks.locks import Lock

LOCK = Lock(Path("trl1.16-py311.txt"), "0" * 64, {}, {})

CELLS = [f"{flow}[{variant}]" for flow, variant in catalog.SWEPT_CELLS]


def plan(tmp_path: Path, cells: tuple[PlannedCell, ...] | None = None) -> Plan:
    """A plan of a whole stack, or of these cells."""
    versions = {"trl": "1.16.0", "transformers": "5.20.0", "peft": "0.21.0", "bitsandbytes": "0.50.2"}
    planned = stack_run.planned_cells(Ledger(issues=()), DeviceKind.CPU, versions) if cells is None else cells
    return Plan(
        run=str(tmp_path / "run"),
        stack="trl1.16-py311",
        lock_sha256="aa" * 32,
        torch_wanted="2.13.0",
        base_torch=False,
        device=DeviceKind.CPU,
        attention="sdpa",
        steps=10,
        seed=0,
        limit_s=60.0,
        cells=planned,
    )


# --------------------------------------------------------------------------------------------------------- which cells


def names(tmp_path: Path, *arguments: str) -> list[str]:
    """Return the cells that are swept, one in each plan."""
    plans = sweeps.plans_of(plan(tmp_path), Seeds(200), arguments)
    assert all(len(each.cells) == 1 for each in plans)
    return [str(each.cells[0]) for each in plans]


def test_all_cheap_cells_are_swept_or_those_that_k_selects(tmp_path: Path) -> None:
    """They are in the catalog's order; other cells are never swept."""
    assert sorted(names(tmp_path)) == sorted(CELLS)
    assert names(tmp_path, "-k", "llama") == ["sft-peft-config[llama-full-nogc]"]


def test_every_swept_cell_can_have_every_handicap() -> None:
    """One of them leaves only `lora_B` of `q_proj` alive, and all rates are of the loss of next tokens."""
    for name, variant in catalog.SWEPT_CELLS:
        flow = catalog.flow_named(name)
        assert (flow.subject, flow.method) == (catalog.Subject.ADAPTER, catalog.Method.LORA)
        assert "q_proj" in catalog.lora_of(flow, variant.model).target_modules
        assert flow.objective is catalog.Objective.SFT


@pytest.mark.parametrize(
    ("arguments", "seeds", "what"),
    [
        (("-k", "sft-full"), Seeds(200), "no cell to sweep"),
        (("-x",), Seeds(200), "a sweep accepts only -k"),
        ((), Seeds(200, 400), "--seeds 400-599 for 3 cells"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_anything_runs(
    tmp_path: Path, arguments: tuple[str, ...], seeds: Seeds, what: str
) -> None:
    """The message lists the choices, or the reason."""
    with pytest.raises(CompatError) as caught:
        sweeps.plans_of(plan(tmp_path), seeds, arguments)
    assert caught.value.what == what
    assert caught.value.todo
    assert (sweeps.NOT_SWEPT in str(caught.value)) is (seeds.first is None)


# --------------------------------------------------------------------------------------------------------- which seeds


def kept(cell: str, first: int, last: int) -> Sweep:
    """Write a committed sweep of these seeds."""
    return dataclasses.replace(calibration.judged(d.swept(0)), cell=cell, seeds=(first, last))


KEPT = [kept("a", 0, 199), kept("b", 200, 399)]


@pytest.mark.parametrize(
    ("cell", "asked", "seeds"),
    [
        ("a", Seeds(200), range(200)),  # those of its committed sweep again
        ("b", Seeds(200), range(200, 400)),
        ("b", Seeds(300), range(200, 500)),
        ("a", Seeds(300), range(400, 700)),  # more than fit before the next sweep's
        ("c", Seeds(200), range(400, 600)),  # used by no sweep
        ("a", Seeds(100, 7), range(7, 107)),  # as given
    ],
)
def test_a_number_of_seeds_is_of_seeds_that_no_other_sweep_has(cell: str, asked: Seeds, seeds: range) -> None:
    """Rates are summed over independent runs."""
    assert sweeps.seeds_for(cell, asked, KEPT) == seeds


def test_the_first_sweep_begins_at_zero() -> None:
    """No sweep is committed."""
    assert sweeps.seeds_for("a", Seeds(200), []) == range(200)


# ------------------------------------------------------------------------------------------------------ inside the cell


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str | None]]:
    """Record seed and handicap of every run; it prints, as trainers do, and returns a healthy observation."""
    done: list[tuple[int, str | None]] = []

    def run_cell(given: Plan, planned: PlannedCell) -> Observation:
        print("a trainer's log")
        done.append((given.seed, planned.handicap))
        return dataclasses.replace(b.healthy(), seed=given.seed, handicap=planned.handicap)

    monkeypatch.setattr(cell_side, "runner", SimpleNamespace(run_cell=run_cell))
    return done


def sweep(tmp_path: Path, seeds: range) -> list[dict[str, Any]]:
    """Sweep one cell into a file and read it."""
    flow, variant = catalog.SWEPT_CELLS[0]
    one = plan(tmp_path, (PlannedCell(flow, variant, ()),))
    (tmp_path / "plan.json").write_text(one.to_json(), encoding="utf-8")
    cell_side.main(str(tmp_path / "plan.json"), str(tmp_path / "sweeps" / "x.jsonl"), seeds)
    return [json.loads(line) for line in (tmp_path / "sweeps" / "x.jsonl").read_text().splitlines()]


def test_every_seed_runs_healthy_and_in_each_handicap(tmp_path: Path, ran: list[Any]) -> None:
    """Each run is one line."""
    lines = sweep(tmp_path, range(3, 5))
    assert ran == [(seed, handicap) for seed in (3, 4) for handicap in (None, *catalog.Handicap)]
    assert [(line["seed"], line["handicap"]) for line in lines] == ran


def test_an_interrupted_sweep_resumes(tmp_path: Path, ran: list[Any]) -> None:
    """The interrupted run is repeated; finished runs are not."""
    sweep(tmp_path, range(2))
    path = tmp_path / "sweeps" / "x.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:8]) + '{"cell":"trl1.1')
    ran.clear()
    lines = sweep(tmp_path, range(3))
    everything = [(seed, handicap) for seed in range(3) for handicap in (None, *catalog.Handicap)]
    assert ran == everything[8:]
    assert [(line["seed"], line["handicap"]) for line in lines] == everything


def test_progress_is_printed(tmp_path: Path, ran: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Progress is printed every ten seeds, without the trainers' output."""
    sweep(tmp_path, range(20))
    assert capsys.readouterr().out.splitlines() == [
        f"{CELLS[0]}: 60 of 120 runs, 0 min left",
        f"{CELLS[0]}: 120 of 120 runs, 0 min left",
    ]


# ---------------------------------------------------------------------------------------------------------- on the host


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands that a sweep starts on the host; each finds its runs finished. Results are written into the test's
    folder.
    """
    commands: list[list[str]] = []

    def run(command: list[str], given: Plan, *_: Any) -> int:
        commands.append(command)
        into, seeds = Path(command[4]), range(int(command[5]), int(command[6]))
        into.parent.mkdir(parents=True, exist_ok=True)
        cell = given.id_of(given.cells[0])
        lines = [to_json(dataclasses.replace(seen, cell=cell)) for seed in seeds for seen in d.swept(seed)]
        into.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return 0

    learning = tmp_path / "learning"
    monkeypatch.setattr(stack_run, "run_process", run)
    monkeypatch.setattr(sweeps, "runs_of", lambda given, *_: tmp_path / f"{given.cells[0].variant}.jsonl")
    save, read_sweeps = calibration.save, calibration.read_sweeps
    monkeypatch.setattr(calibration, "read_sweeps", lambda *_: read_sweeps(learning))
    monkeypatch.setattr(calibration, "save", lambda found: save(found, learning))
    monkeypatch.setattr("finetune_compat.evidence.learning.publish", lambda: None)
    return commands


def test_cells_are_swept_one_after_another_with_seeds_of_their_own(tmp_path: Path, host: list[list[str]]) -> None:
    """Each is judged and stored when it ends, and uses seeds that the earlier ones do not."""
    plans = sweeps.plans_of(plan(tmp_path), Seeds(200), ())
    codes = [nox_session._calibrate(one, LOCK, Path("python"), (), Seeds(200), fresh=False) for one in plans]
    assert codes == [0, 0, 0]
    assert [command[5:] for command in host] == [["0", "200"], ["200", "400"], ["400", "600"]]
    assert [each.seeds for each in calibration.read_sweeps()] == [(0, 199), (200, 399), (400, 599)]


def test_earlier_runs_are_removed_if_all_run_again(tmp_path: Path, host: list[list[str]]) -> None:
    """`--fresh` requests this."""
    one, *_ = sweeps.plans_of(plan(tmp_path), Seeds(1), ())
    there = tmp_path / f"{one.cells[0].variant}.jsonl"
    for fresh, left in ((False, True), (True, False)):
        there.write_text("before\n")
        seen: list[bool] = []
        runs_before = stack_run.run_process

        def looked(command: list[str], *given: Any, seen: list[bool] = seen, run: Any = runs_before) -> int:
            seen.append(there.exists())
            return int(run(command, *given))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stack_run, "run_process", looked)
            nox_session._calibrate(one, LOCK, Path("python"), (), Seeds(1), fresh=fresh)
        assert seen == [left]
