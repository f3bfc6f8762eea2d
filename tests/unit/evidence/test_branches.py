"""Records of device-dependent branches are stored for whole runs, and shown on one page."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import finetune_compat
import pytest
from branch_builders import MODEL, TRACE
from builders import NF4, NF4_NOGC, NF4_PLAIN
from finetune_compat.contract.errors import CompatError
from finetune_compat.contract.plan import Plan, PlannedCell
from finetune_compat.contract.records import DeviceKind
from finetune_compat.evidence import branches
from finetune_compat.results.branches import covered_by_emulation, read_trace

COMMITTED = Path(finetune_compat.__file__).parents[2] / "reports" / "branches"

PREPARES = 538
"""Line of trl/models/utils.py 0.22.2: `if is_qlora and not is_sharded_qlora:`, before the second preparation."""


@pytest.fixture
def plan(tmp_path: Path, in_places: Any) -> Plan:
    """A plan of two cells in an empty checkout, whose process has written its record."""
    in_places(checkout=tmp_path)
    found = Plan(
        run=str(tmp_path / "run"),
        stack=TRACE.stack,
        lock_sha256=TRACE.lock_sha256,
        torch_wanted="2.13.0",
        base_torch=False,
        device=DeviceKind.CPU,
        attention="sdpa",
        steps=10,
        seed=17,
        limit_s=60,
        cells=(PlannedCell(MODEL, NF4, ()), PlannedCell(MODEL, NF4_PLAIN, ())),
    )
    found.branches_file.parent.mkdir(parents=True)
    found.branches_file.write_text(json.dumps(dataclasses.asdict(TRACE)), encoding="utf-8")
    return found


def test_the_usual_cells_are_traced_or_those_that_are_selected(plan: Plan) -> None:
    """By `-k` alone: the cells do not run under pytest."""
    more = dataclasses.replace(plan, cells=(*plan.cells, PlannedCell(MODEL, NF4_NOGC, ())))
    assert branches.traced(more, ()) == plan
    assert [str(cell.variant) for cell in branches.traced(more, ("-k", "nogc")).cells] == ["qwen2-nf4-nogc"]
    assert [str(cell.variant) for cell in branches.traced(plan, ("-k", "plain")).cells] == ["qwen2-nf4-plain-gc"]
    for arguments in (("-k", "llama"), ("-x",)):
        with pytest.raises(CompatError):
            branches.traced(plan, arguments)


def test_a_whole_run_is_stored_with_the_commit(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of an earlier one, and the page is written again."""
    monkeypatch.setattr(branches, "commit", lambda: "0123456789abcdef")
    folder = tmp_path / "reports" / "branches"
    for _ in range(2):
        assert branches.save(plan, 0, ()) == f"Stored in {folder / 'trl0.24-py311.json'}."
    [stored] = branches.read_kept(folder)
    assert stored == dataclasses.replace(TRACE, commit="0123456789abcdef")
    assert (folder / "branches.md").read_text(encoding="utf-8") == branches.page([stored])


@pytest.mark.parametrize(("status", "arguments"), [(1, ()), (0, ("-k", "plain"))])
def test_part_of_a_run_is_not_stored(plan: Plan, tmp_path: Path, status: int, arguments: tuple[str, ...]) -> None:
    """Branches of the cells that did not run would look uncovered."""
    assert branches.save(plan, status, arguments).startswith(f"Not stored in {tmp_path / 'reports' / 'branches'}: ")
    assert not (tmp_path / "reports").exists()


def test_the_page_names_each_branch_that_no_cell_took() -> None:
    """With its place, and those that cells took under emulation; other makers are only counted."""
    ended = dataclasses.replace(TRACE.cells[2], error="ValueError at trainer")
    page = branches.page([dataclasses.replace(TRACE, cells=(*TRACE.cells[:2], ended, TRACE.cells[3]))])
    place, stack = "| `trl/models/utils.py:538` | `prepare_peft_model` |", "trl0.24-py311 |"
    untaken, emulated = page.split("## Covered under emulation")
    assert f"{place} `torch.cuda.is_available()` | true | {stack}" in untaken
    assert untaken.count(place) == 1
    assert f"{place} `is_sharded_qlora` | {MODEL} | false | qwen2-nf4-plain-gc | qwen2-nf4-gc | {stack}" in emulated
    alone = "| true | qwen2-nf4-plain-gc | qwen2-nf4-gc (no other cell) |"
    assert f"{place} `emulated_alone` | {MODEL} {alone} {stack}" in emulated
    assert "| 4 | 3 | 6 | 1 | 1 | 1 |" in untaken
    assert "is_torch_xpu_available" not in page
    assert f"| {MODEL}\\[qwen2-int8-gc\\] | ValueError at trainer | {stack}" in page


def test_a_branch_that_moved_between_releases_is_one_row() -> None:
    """With the line of the newest stack."""
    moved = tuple(dataclasses.replace(guard, line=540) for guard in TRACE.guards)
    newer = dataclasses.replace(TRACE, stack="trl0.25-py311", guards=moved)
    untaken = branches.page([TRACE, newer]).split("## Not covered")[1].split("## Covered")[0]
    assert "trl/models/utils.py:538" not in untaken
    assert untaken.count("| `trl/models/utils.py:540` |") == 1
    assert "| true | trl0.24-py311 to trl0.25-py311 (2 stacks) |" in untaken


def test_where_all_branches_are_taken_the_page_says_so() -> None:
    """Nothing is emulated either, and no cell ended in an error."""
    assert branches.page([dataclasses.replace(TRACE, guards=())]).count("Nothing.") == 3


# ----------------------------------------------------------------------------------------------------------- committed


def test_the_committed_page_is_what_the_records_say_today() -> None:
    """No record was added, and no sentence changed, without it."""
    kept = branches.read_kept(COMMITTED)
    assert kept
    assert (COMMITTED / "branches.md").read_text(encoding="utf-8") == branches.page(kept)


def test_a_plain_cpu_misses_the_branch_of_trl3926_and_emulation_covers_it() -> None:
    """TRL takes 4-bit weights on a CPU for sharded QLoRA and does not prepare them: the line of the issue."""
    trace = read_trace(COMMITTED / "trl0.22-py311.json")
    found = [
        (opened.flow, opened.cells, opened.emulated)
        for opened in covered_by_emulation(trace)
        if (opened.guard.function, opened.guard.condition, opened.side)
        == ("prepare_peft_model", "is_sharded_qlora", False)
        and opened.guard.line == PREPARES
    ]
    assert found == [
        (flow, ("qwen2-nf4-plain-gc",), emulated)
        for flow, emulated in (
            ("sft-peft-config", ("qwen2-nf4-gc", "qwen2-nf4-bf16-gc")),
            ("sft-peft-model", ("qwen2-nf4-gc",)),
        )
    ]
