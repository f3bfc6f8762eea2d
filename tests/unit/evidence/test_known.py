"""What gates know before they run: derived from judged baselines, and committed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import builders as b
from finetune_compat.checks.comparison import Change, compare
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.contract.records import Observation
from finetune_compat.evidence.known import inputs, known_of
from finetune_compat.gate.known import FILE, Known, Origin, read_known, to_json
from finetune_compat.machine.places import places
from finetune_compat.results.run_files import Results, judge_one
from finetune_compat.stacks.matrix import read_matrix

MATRIX, LEDGER = read_matrix(), load_ledger()
ORIGIN = Origin("cpu", "2026-11-20", "AMD EPYC")


def run_of(*seen: Observation) -> Results:
    """A judged run with these observations."""
    return Results(Path("cpu"), (), {one.cell: one for one in seen}, tuple(judge_one(one, LEDGER) for one in seen))


def healthy(stack: str, trl: str) -> Observation:
    """A healthy cell on a stack."""
    return b.healthy("sft-peft-model", b.NF4, stack=stack, versions=b.on_trl(trl))


BEFORE, AFTER = healthy("trl0.19-py311", "0.19.1"), b.frozen(healthy("trl0.22-py311", "0.22.2"))


def known(*seen: Observation) -> Known:
    """What a baseline with these observations says."""
    return known_of([run_of(*seen)], [ORIGIN], MATRIX, "digest")


def test_the_committed_file_follows_from_the_baselines_the_ledger_and_the_checks() -> None:
    """`compat known --check` compares all of it; this compares what it was made from."""
    committed = json.loads((places().matrices / FILE).read_text(encoding="utf-8"))
    assert committed["inputs"] == inputs(), "make it again: compat known"


def test_two_stacks_compare_as_their_verdicts_do() -> None:
    """The same change as from the observations."""
    found = known(BEFORE, AFTER)
    assert [stack.name for stack in found.stacks] == ["trl0.19-py311", "trl0.22-py311"]
    (before,), (after,) = (found.verdicts(place, found.stacks[place].name) for place in (0, 1))
    assert (before.cell, after.cell) == (BEFORE.cell, AFTER.cell)
    whole = compare(judge_one(BEFORE, LEDGER), judge_one(AFTER, LEDGER))
    assert compare(before, after) is whole is Change.REGRESSED


def test_the_line_that_froze_is_held() -> None:
    """It is what a person asks for first."""
    found = known(BEFORE, AFTER)
    (line,) = found.lines(1, "trl0.22-py311").values()
    assert line.freezes[0][-1] == AFTER.freezes[0].frames[-1]


def test_other_computation_before_an_update_is_held() -> None:
    """Two stacks whose losses before any update differ, although both learn."""
    other = b.losses(healthy("trl0.22-py311", "0.22.2"), 4.4012, 3.9011)
    found = known(BEFORE, other)
    assert found.drifts(0, 1).keys() == {"sft-peft-model[qwen2-nf4-gc]@cpu"}
    assert known(BEFORE, healthy("trl0.22-py311", "0.22.2")).drifts(0, 1) == {}


def test_a_cell_that_was_lost_is_not_held() -> None:
    """Nothing is known of it."""
    assert known(b.out_of_memory(BEFORE)).cells == ()


def test_the_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Every value survives."""
    found = known(BEFORE, AFTER)
    (tmp_path / FILE).write_text(to_json(found))
    assert read_known(tmp_path / FILE) == found


def test_observations_of_another_lock_are_not_the_stack() -> None:
    """A stack whose lock was made again has not been measured."""
    from finetune_compat.gate.asked import Row

    found = known(BEFORE)
    row = Row(MATRIX.stack("trl0.19"), None)
    assert found.place(row, "trl0.19-py311", BEFORE.stack.lock_sha256) == 0
    assert found.place(row, "trl0.19-py311", "0" * 64) is None
    assert found.place(replace(row), "trl0.19-py312", BEFORE.stack.lock_sha256) is None
