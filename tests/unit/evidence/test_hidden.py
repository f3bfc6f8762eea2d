"""Hidden faults: no xfail of a committed baseline hides one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import builders as b
import pytest
from finetune_compat.checks.ledger import Ledger
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.contract.errors import ExitCode
from finetune_compat.contract.records import Frame, Observation, Stage
from finetune_compat.evidence.hidden import MUTATIONS, hidden, hidden_command, table, xfails
from finetune_compat.machine.places import places
from finetune_compat.results.run_files import read_observations

BASELINES = sorted(places().baselines.iterdir())


@cache
def xfails_of(baseline: Path) -> tuple[Observation, ...]:
    """One xfail for each set of issues, flow, variant and set of failing places; cells of other stacks look alike."""
    every = xfails(read_observations(baseline / "observations.jsonl")[1].values(), load_ledger())
    return tuple({_kind(seen): seen for seen in every}.values())


def _kind(seen: Observation) -> tuple[object, ...]:
    error = (seen.error.type, seen.error.stage, _places(seen.error.frames)) if seen.error else None
    froze = tuple(_places(freeze.frames) for freeze in seen.freezes)
    return seen.flow, seen.variant, error, froze, seen.reply is None


def _places(frames: Sequence[Frame]) -> tuple[tuple[str, str], ...]:
    return tuple((frame.file, frame.function) for frame in frames[-2:])


@pytest.mark.parametrize("baseline", BASELINES, ids=lambda path: path.name)
def test_no_xfail_of_a_baseline_hides_a_fault(baseline: Path) -> None:
    """Whatever is added to what an issue lists, the cell fails."""
    rows = hidden(xfails_of(baseline), load_ledger())
    assert {row.mutation: row.example for row in rows if row.hidden} == {}


def test_every_mutation_changes_an_xfail_of_a_baseline() -> None:
    """A mutation that applies nowhere would prove nothing."""
    seen = [seen for baseline in BASELINES for seen in xfails_of(baseline)]
    unused = [name for name, mutate in MUTATIONS.items() if all(mutate(each) in (None, each) for each in seen)]
    assert unused == []


@pytest.mark.parametrize(("stage", "number"), [(None, 1), (Stage.TRAINING, 0)])
def test_a_fault_that_stays_an_xfail_is_counted_with_its_issue(stage: Stage | None, number: int) -> None:
    """An entry without a stage hides the same error at another stage."""
    seen = b.failed(b.healthy(versions=b.on_trl("0.22.2")), "KeyError", "x", Stage.TRAINING)
    nothing = dict.fromkeys(("froze", "raised", "symptom"))
    entry = dataclasses.replace(b.FLAGSHIP, check="F001", error="KeyError: x", stage=stage, **nothing)
    found = {row.mutation: row for row in hidden([seen], Ledger(issues=(b.issue(entry),)))}
    row = found["the same error at another stage"]
    assert (row.hidden, row.of, dict(row.issues)) == (number, 1, {"trl#3926": 1} if number else {})
    assert row.example == (seen.cell if number else "")


def test_the_table_has_a_line_for_every_mutation() -> None:
    """With the number of hidden cells, and of cells that it changed."""
    silent = b.frozen(b.healthy(versions=b.on_trl("0.22.2")))
    found = hidden([silent], b.LISTED)
    lines = table(Path("cpu"), 1, found).splitlines()
    assert lines[0].startswith("1 xfails of cpu")
    assert [line.split("  ")[0] for line in lines[2:]] == list(MUTATIONS)


def test_a_run_without_an_xfail_tells_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing was tried, which is not the same as nothing hidden."""
    seen = b.healthy()
    run = b.stored(tmp_path / "run", [b.ran(seen)], seen)
    assert hidden_command(str(run)) is ExitCode.COULD_NOT_TELL
    assert "0 xfails" in capsys.readouterr().out


def test_another_type_of_error_is_another_one() -> None:
    """Also of a KeyError."""
    seen = b.failed(b.healthy(), "KeyError", "x", Stage.TRAINING)
    changed = MUTATIONS["another type of error"](seen)
    assert changed is not None
    assert changed.error is not None
    assert changed.error.type == "IndexError"


def test_the_eval_loss_of_generations_is_no_fault_of_another_size() -> None:
    """It is about 0 whatever the model is; that it is not finite, or missing, is still one."""
    seen = next(
        seen for seen in xfails_of(places().baselines / "cpu") if seen.flow == "grpo-peft-config" and seen.training
    )
    assert MUTATIONS["eval loss halved"](seen) is None
    assert MUTATIONS["eval loss NaN"](seen) is not None
