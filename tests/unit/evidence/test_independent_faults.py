"""Independent faults: what is stored of a run of them, how they are counted, and what is committed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import builders as b
import pytest
from finetune_compat.contract import catalog
from finetune_compat.contract.errors import RecordsError
from finetune_compat.contract.plan import Plan
from finetune_compat.contract.records import DeviceKind, to_json
from finetune_compat.evidence import fault_records, faults, independent_faults
from finetune_compat.evidence.independent_faults import Missed, Record

PLANTED = independent_faults.planted()
LISTED = independent_faults.listed()
TESTS = '''
@fault(kind="reported loss", source="https://example.org/1")
def wrong_loss(patch):
    """The loss is wrong."""

@fault(kind="steps", source="https://example.org/2")
def lost_step(patch):
    """A step is lost."""

@other()
def no_fault(patch):
    """Not decorated as a fault."""

def helper():
    """Not decorated at all."""
'''


@pytest.fixture(autouse=True)
def _two_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests plant two, in files like those of this checkout."""
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "faults_of_some.py").write_text(TESTS)
    monkeypatch.setattr(independent_faults, "tests_directory", lambda: tests)
    monkeypatch.setattr(fault_records, "commit", lambda: "5f" * 20)


def line(fault: str, **changes: Any) -> dict[str, Any]:
    """A result as the tests write it."""
    seen = json.loads(to_json(b.healthy(stack="trl0.22-py311", versions=b.on_trl("0.22.2"))))
    result = {
        "fault": fault,
        "breaks": f"{fault} breaks.",
        "kind": "kind",
        "source": f"https://example.org/{fault}",
        "cell": "sft-peft-config[qwen2-full-nogc]",
        "absent": None,
        "effect": "weights differ",
        "outcome": "fail",
        "codes": ["G402"],
        "quick": [],
        "observation": seen,
    }
    return {**result, **changes}


NAMED, MISSED = line("wrong-loss"), line("lost-step", outcome="pass", codes=[])
ABSENT = line("lost-step", absent="no such API", effect=None, outcome=None, codes=[], observation=None)


@pytest.fixture
def wrote(tmp_path: Path) -> Callable[..., Plan]:
    """A run in which the tests wrote these lines."""

    def write(*lines: dict[str, Any], device: DeviceKind = DeviceKind.CPU) -> Plan:
        plan = Plan(
            run=str(tmp_path / "run"),
            stack="trl0.22-py311",
            lock_sha256="aa" * 32,
            torch_wanted="2.13.0",
            base_torch=False,
            device=device,
            attention="sdpa",
            steps=10,
            seed=0,
            limit_s=60.0,
            cells=(),
        )
        plan.independent_faults_file.parent.mkdir(parents=True, exist_ok=True)
        plan.independent_faults_file.write_text("".join(f"{json.dumps(each)}\n" for each in lines))
        return plan

    return write


def test_faults_are_found_by_their_decorator() -> None:
    assert independent_faults.planted() == {"wrong-loss", "lost-step"}


def test_a_complete_run_is_stored_with_its_origin(tmp_path: Path, wrote: Callable[..., Plan]) -> None:
    kept = tmp_path / "kept"
    said = independent_faults.save(wrote(NAMED, MISSED), 0, (), kept)
    assert said == f"Checks name 1 of 2 independent faults. Stored in {kept / 'trl0.22-py311.json'}."
    [record] = independent_faults.read_records(kept)
    assert [verdict.fault for verdict in record.verdicts] == ["wrong-loss", "lost-step"]
    assert (record.stack, record.versions["trl"], record.commit) == ("trl0.22-py311", "0.22.2", "5f" * 20)


@pytest.mark.parametrize(
    ("lines", "status", "arguments", "why"),
    [
        ((NAMED, MISSED), 1, (), "the run failed."),
        ((NAMED, MISSED), 0, ("-k", "loss"), "-k loss may have left some faults out."),
        ((NAMED,), 0, (), "not every fault was planted (lost-step)."),
        ((NAMED, MISSED, line("older")), 0, (), "not every fault was planted (older)."),
    ],
)
def test_a_run_that_failed_or_is_not_complete_is_not_stored(
    tmp_path: Path,
    wrote: Callable[..., Plan],
    lines: tuple[dict[str, Any], ...],
    status: int,
    arguments: tuple[str, ...],
    why: str,
) -> None:
    kept = tmp_path / "kept"
    assert independent_faults.save(wrote(*lines), status, arguments, kept) == f"Not stored in {kept}: {why}"
    assert not kept.exists()


def test_a_run_without_a_test_is_no_record(tmp_path: Path, wrote: Callable[..., Plan]) -> None:
    plan = wrote()
    plan.independent_faults_file.unlink()
    with pytest.raises(RecordsError, match="no independent fault was planted"):
        independent_faults.save(plan, 0, (), tmp_path / "kept")


def test_a_file_that_is_no_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}", encoding="utf-8")
    with pytest.raises(RecordsError, match="not a record of independent faults"):
        independent_faults.read_records(tmp_path)


def test_a_fault_that_cannot_exist_counts_on_neither_side(wrote: Callable[..., Plan]) -> None:
    assert independent_faults.read_run(wrote(NAMED, MISSED)).score == "1 of 2"
    assert independent_faults.read_run(wrote(NAMED, ABSENT)).score == "1 of 1"


def test_the_quick_score_leaves_the_deep_tier_out(wrote: Callable[..., Plan]) -> None:
    """The first fault is named with the measurements of the deep tier only."""
    record = independent_faults.read_run(wrote(NAMED, line("lost-step", quick=["O301"])))
    assert (record.score, record.quick_score) == ("2 of 2", "1 of 2")


def test_the_page_shows_both_scores_and_every_missed_fault(wrote: Callable[..., Plan]) -> None:
    record = independent_faults.read_run(wrote(NAMED, MISSED))
    page = faults.page([], [record], {"lost-step": Missed("No check counts steps.")})
    assert "| trl0.22-py311 | not run | 1 of 2 | 0 of 2 |" in page
    assert (
        "| [lost-step](https://example.org/lost-step) | lost-step breaks. | missed | No check counts steps. |" in page
    )
    assert "| [wrong-loss](https://example.org/wrong-loss) | wrong-loss breaks. | G402 |" in page


def test_the_page_says_where_a_fault_cannot_exist(wrote: Callable[..., Plan]) -> None:
    one = independent_faults.read_run(wrote(NAMED, MISSED))
    other = dataclasses.replace(independent_faults.read_run(wrote(NAMED, ABSENT)), stack="trl0.9-py311")
    [row] = independent_faults.rows_of_missed([other, one], {})
    assert row[2:] == ("cannot exist", "missed", "")


# ------------------------------------------------------------------------------------------------- what is committed


@pytest.fixture(scope="module")
def kept() -> tuple[Record, ...]:
    return independent_faults.read_records()


def test_what_is_committed_is_of_the_faults_there_are(kept: tuple[Record, ...]) -> None:
    """In as many steps as a cell has."""
    for record in kept:
        assert {verdict.fault for verdict in record.verdicts} == PLANTED
        assert record.steps == catalog.STEPS


def test_at_least_forty_faults_have_an_effect_on_each_stack(kept: tuple[Record, ...]) -> None:
    for record in kept:
        assert len(record.effective) >= 40


def test_every_fault_has_a_source(kept: tuple[Record, ...]) -> None:
    for record in kept:
        assert all(verdict.source.startswith("https://") and verdict.kind for verdict in record.verdicts)


def test_exactly_the_listed_faults_are_missed(kept: tuple[Record, ...]) -> None:
    """The score may fall only with a reason, and a fault that is named now is not listed."""
    missed = {(record.stack, verdict.fault) for record in kept for verdict in record.missed}
    effective = {(record.stack, verdict.fault) for record in kept for verdict in record.effective}
    may = {(stack, name) for stack, name in effective if name in LISTED and stack in (LISTED[name].stacks or (stack,))}
    assert missed == may
    assert all(entry.reason for entry in LISTED.values())
    assert set(LISTED) <= PLANTED


def test_the_committed_records_are_of_stacks_of_all_ages(kept: tuple[Record, ...]) -> None:
    assert [record.stack for record in kept] == ["trl0.9-py311", "trl0.22-py311", "trl1.6-py311", "trl1.16-py311"]
