"""Records of planted faults: what both sets of faults share."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import builders as b
import pytest
from finetune_compat.contract.errors import RecordsError
from finetune_compat.contract.records import DeviceKind
from finetune_compat.evidence import fault_records
from finetune_compat.evidence.fault_records import FaultRecord
from pydantic import TypeAdapter
from store_builders import planned

PLAN = planned("/run")
RECORD = FaultRecord(**fault_records.facts_of(PLAN, b.healthy(versions=b.on_trl("0.22.2"))))
ADAPTER = TypeAdapter(FaultRecord)


def test_a_record_has_the_facts_of_its_first_fault_and_the_steps_of_its_plan() -> None:
    """Packages are in the order of their names."""
    assert (RECORD.versions["trl"], RECORD.steps) == ("0.22.2", PLAN.steps)
    assert list(RECORD.versions) == sorted(RECORD.versions)


def test_the_record_of_a_gpu_does_not_replace_that_of_a_cpu(tmp_path: Path) -> None:
    """A second record of the same stack and device does."""
    gpu = dataclasses.replace(PLAN, device=DeviceKind.CUDA)
    files = [fault_records.write(RECORD, plan, tmp_path).name for plan in (PLAN, gpu, PLAN)]
    assert files == [f"{PLAN.stack}.json", f"{PLAN.stack}-cuda.json", f"{PLAN.stack}.json"]
    assert fault_records.read(ADAPTER, tmp_path, "faults") == (RECORD, RECORD)


def test_records_are_in_the_order_of_stacks_however_their_files_sort(tmp_path: Path) -> None:
    """As a string, `trl0.22` sorts before `trl0.9`."""
    for stack in ("trl0.22-py311", "trl0.9-py311"):
        plan = dataclasses.replace(PLAN, stack=stack)
        fault_records.write(dataclasses.replace(RECORD, stack=stack), plan, tmp_path)
    found = fault_records.read(ADAPTER, tmp_path, "faults")
    assert [record.stack for record in found] == ["trl0.9-py311", "trl0.22-py311"]


@pytest.mark.parametrize(
    ("status", "arguments", "why"),
    [
        (0, (), ""),
        (1, (), "the run failed."),
        (1, ("-k", "x"), "the run failed."),
        (0, ("-k", "x"), "-k x may have left some faults out."),
    ],
)
def test_only_a_complete_run_that_succeeded_is_stored(status: int, arguments: tuple[str, ...], why: str) -> None:
    """Any argument for pytest may select."""
    assert fault_records.why_not(status, arguments) == why


def test_lines_are_read_whole(tmp_path: Path) -> None:
    """Without a file no test ran."""
    path = tmp_path / "faults.jsonl"
    with pytest.raises(RecordsError, match="no planted fault was planted"):
        fault_records.read_lines(path, "planted fault")
    path.write_text('{"fault": "a"}\n{"fault": "\u00e9"}\n', encoding="utf-8")
    assert fault_records.read_lines(path, "fault") == [{"fault": "a"}, {"fault": "\u00e9"}]


def test_a_file_that_is_no_record_is_named(tmp_path: Path) -> None:
    """What to do is said too."""
    (tmp_path / "x.json").write_text("{}", encoding="utf-8")
    with pytest.raises(RecordsError) as raised:
        fault_records.read(ADAPTER, tmp_path, "planted faults")
    assert str(raised.value).startswith(f"{tmp_path}/x.json: not a record of planted faults: ")
    assert raised.value.todo == "Remove it, and run that stack again with --faults."
