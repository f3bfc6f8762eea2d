"""Planted faults: what is stored of a run of them, what is refused, and what is committed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import builders as b
import pytest
from finetune_compat.checks import CHECKS
from finetune_compat.contract import catalog
from finetune_compat.contract.errors import RecordsError
from finetune_compat.contract.plan import Plan
from finetune_compat.contract.records import DeviceKind, to_json
from finetune_compat.evidence import fault_records, faults, independent_faults, planted_scripts
from finetune_compat.evidence.faults import Record
from finetune_compat.machine.places import places

FAULTS = places().faults

PLANTED = faults.planted()
"""The faults of this checkout's tests, read before a fixture replaces them."""

KINDS = {"freeze": "C104", "crash": "F001"}


@pytest.fixture(autouse=True)
def _two_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the faults by two, in a file of the same form."""
    tests = tmp_path / "tests"
    tests.mkdir()
    rows = "".join(f'    ("{name}", CELL, _after(_{name}), "{code}"),\n' for name, code in KINDS.items())
    (tests / "test_some.py").write_text(f"FAULTS: tuple[object, ...] = (\n    # name, ...\n{rows})\n")
    (tests / "test_none.py").write_text("FAULTY = 1\n")
    planted = faults.planted
    monkeypatch.setattr(faults, "planted", lambda: planted(tests))
    monkeypatch.setattr(fault_records, "commit", lambda: "5f" * 20)


def plan(tmp_path: Path, stack: str = "trl0.22-py311", device: DeviceKind = DeviceKind.CPU) -> Plan:
    """The plan of the run that planted them."""
    return Plan(
        run=str(tmp_path / "run"),
        stack=stack,
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


Wrote = Callable[..., Plan]


@pytest.fixture
def wrote(tmp_path: Path) -> Wrote:
    """Write a run in which these checks named these faults."""

    def write(named: dict[str, str] = KINDS, stack: str = "trl0.22-py311", **changes: DeviceKind) -> Plan:
        made = plan(tmp_path, stack, **changes)
        seen = json.loads(to_json(b.healthy(stack=stack, versions=b.on_trl("0.22.2"))))
        lines = [
            {"fault": name, "check": code, "said": f"{name}!", "observation": seen} for name, code in named.items()
        ]
        made.faults_file.parent.mkdir(parents=True, exist_ok=True)
        made.faults_file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        return made

    return write


def test_a_whole_run_is_kept_with_its_provenance(tmp_path: Path, wrote: Wrote) -> None:
    """Each fault, its check and the message are stored with versions, machine and commit."""
    kept = tmp_path / "kept"
    assert faults.save(wrote(), 0, (), kept) == f"Stored in {kept / 'trl0.22-py311.json'}."
    [record] = faults.read_records(kept)
    assert [(each.fault, each.check, each.said) for each in record.named] == [
        ("freeze", "C104", "freeze!"),
        ("crash", "F001", "crash!"),
    ]
    assert {each.cell for each in record.named} == {"sft-peft-model[qwen2-nf4-gc]"}
    assert (record.stack, record.versions["trl"], record.commit) == ("trl0.22-py311", "0.22.2", "5f" * 20)


@pytest.mark.parametrize(
    ("named", "status", "arguments", "why"),
    [
        (KINDS, 1, (), "the run failed."),
        (KINDS, 0, ("-k", "crash"), "-k crash may have left some faults out."),
        ({"crash": "F001"}, 0, (), "not every fault was planted and named (freeze)."),
        ({**KINDS, "older": "C104"}, 0, (), "not every fault was planted and named (older)."),
        ({**KINDS, "crash": "C104"}, 0, (), "not every fault was planted and named (crash)."),
    ],
)
def test_a_run_that_is_not_whole_or_failed_is_not_kept(
    tmp_path: Path, wrote: Wrote, named: dict[str, str], status: int, arguments: tuple[str, ...], why: str
) -> None:
    """The earlier record is unchanged."""
    kept = tmp_path / "kept"
    faults.save(wrote(), 0, (), kept)
    before = {path.name: path.read_bytes() for path in kept.iterdir()}
    assert faults.save(wrote(named), status, arguments, kept) == f"Not stored in {kept}: {why}"
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before


def test_a_run_without_a_test_is_no_record(tmp_path: Path) -> None:
    """All tests were skipped."""
    with pytest.raises(RecordsError, match="no fault was planted"):
        faults.save(plan(tmp_path), 0, (), tmp_path / "kept")


def test_the_page_has_a_column_for_each_stack_in_their_order(tmp_path: Path, wrote: Wrote) -> None:
    """Each fault has a row, in the order of the checks, even if another stack did not plant it."""
    for stack in ("trl1.16-py311", "trl0.9-py311"):
        faults.save(wrote(stack=stack), 0, (), tmp_path / "kept")
    old, new = faults.read_records(tmp_path / "kept")
    page = faults.page([old, dataclasses.replace(new, named=new.named[:1])])
    assert "| check | its claim | planted fault | trl0.9-py311 | trl1.16-py311 |" in page
    rows = [line for line in page.splitlines() if line.startswith(("| C104", "| F001"))]
    assert rows == [
        "| C104 | The parameters to train are trainable when training begins | freeze | named | named |",
        "| F001 | The script runs to its end | crash | named | not run |",
    ]


def test_a_file_that_is_no_record_is_refused(tmp_path: Path) -> None:
    """The message has the path and the remedy."""
    (tmp_path / "x.json").write_text("{}", encoding="utf-8")
    with pytest.raises(RecordsError, match="not a record of planted faults") as caught:
        faults.read_records(tmp_path)
    assert str(tmp_path / "x.json") in str(caught.value)


# ------------------------------------------------------------------------------------------------- what is committed


@pytest.fixture(scope="module")
def kept() -> tuple[Record, ...]:
    return faults.read_records()


STACKS = ("trl0.9-py311", "trl0.22-py311", "trl1.16-py311")
"""An old, a middle and the newest stack."""


@pytest.mark.parametrize("stack", STACKS)
def test_every_check_named_a_fault_on_it(kept: tuple[Record, ...], stack: str) -> None:
    """No check is missing."""
    [record] = [each for each in kept if each.stack == stack]
    assert {each.check for each in record.named} == {check.code for check in CHECKS}


def test_the_committed_records_have_the_current_faults(kept: tuple[Record, ...]) -> None:
    """A fault that was added or has another check was run on all stacks; each takes as many steps as a cell."""
    for record in kept:
        assert {each.fault: each.check for each in record.named} == PLANTED
        assert record.steps == catalog.STEPS


def test_the_committed_page_agrees_with_the_records(kept: tuple[Record, ...]) -> None:
    """It is generated by: nox -s "compat-3.11(trl='0.22')" -- --faults."""
    others, scripts = independent_faults.read_records(), planted_scripts.read_records()
    page = faults.page(kept, others, independent_faults.listed(), scripts)
    assert (FAULTS / "faults.md").read_text(encoding="utf-8") == page
