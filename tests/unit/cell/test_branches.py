"""The tracer notes which values device-dependent conditions had while functions of the libraries ran."""

from __future__ import annotations

import json
import runpy
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import BF16, NF4, NF4_PLAIN, VERSIONS, failed, healthy
from finetune_compat.cell import branches, runner
from finetune_compat.cell.branches import BranchTracer, in_packages
from finetune_compat.contract.branches import Accelerator, Guard, TracedCell
from finetune_compat.contract.plan import Plan, PlannedCell
from finetune_compat.contract.records import DeviceKind, Observation, Stage

SOURCE = """
    def prepare(model, is_qlora):
        is_sharded = model.device.type in {"cpu", "meta"}
        if is_qlora and not is_sharded:
            return "prepared"
        return "as it was"

    def place(device):
        return [1 if d.device.type == "cuda" else 2 for d in device]

    def never():
        if is_cuda_available():
            return 1

    def long(model):
        total = 0
        if model.device.type == "cuda":
            FILL
        return total
    """


class On:
    """Something on a device."""

    def __init__(self, kind: str) -> None:
        self.device, self.type, self.size = self, kind, 1


@pytest.fixture
def library(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Make SOURCE a module of an installed package."""

    def make(package: str = "trl") -> dict[str, Any]:
        file = tmp_path / "site-packages" / package / "utils.py"
        file.parent.mkdir(parents=True)
        # So long a body that the jump over it needs a prefix.
        body = "\n            ".join("total += model.size" for _ in range(300))
        source = textwrap.dedent(SOURCE.replace("FILL", body))
        file.write_text(source, encoding="utf-8")
        return runpy.run_path(str(file))

    return make


def sides(tracer: BranchTracer) -> dict[tuple[str, str, str], set[bool]]:
    """Values by file, function and condition."""
    return {(file, function, condition.text): seen for (file, function, condition), seen in tracer.seen.items()}


def test_a_condition_has_the_values_it_had(library: Callable[..., dict[str, Any]]) -> None:
    """Of every call while the tracer was open; conditions that were not evaluated have none."""
    trl = library()
    with BranchTracer() as tracer:
        assert trl["prepare"](On("cpu"), is_qlora=True) == "as it was"
        assert trl["prepare"](On("cuda"), is_qlora=False) == "as it was"
    assert sides(tracer) == {("trl/utils.py", "prepare", "is_sharded"): {True}}
    with BranchTracer() as tracer:
        trl["prepare"](On("cpu"), is_qlora=True)
        assert trl["prepare"](On("cuda"), is_qlora=True) == "prepared"
    assert sides(tracer) == {("trl/utils.py", "prepare", "is_sharded"): {True, False}}
    trl["prepare"](On("cuda"), is_qlora=True)  # closed: not noted
    assert len(tracer.seen) == 1


def test_expressions_inside_comprehensions_count_too(library: Callable[..., dict[str, Any]]) -> None:
    """They are code of their own."""
    trl = library()
    with BranchTracer() as tracer:
        assert trl["place"]([On("cuda"), On("cpu")]) == [1, 2]
    assert list(sides(tracer).values()) == [{True, False}]


@pytest.mark.parametrize(("kind", "value"), [("cuda", True), ("cpu", False)])
def test_a_long_jump_is_read_right(library: Callable[..., dict[str, Any]], kind: str, *, value: bool) -> None:
    """Its argument needs an instruction before it."""
    trl = library()
    with BranchTracer() as tracer:
        assert trl["long"](On(kind)) == (300 if value else 0)
    assert list(sides(tracer).values()) == [{value}]


def test_other_packages_are_not_traced(library: Callable[..., dict[str, Any]]) -> None:
    """Nor files that only look like them."""
    other = library("pandas")
    with BranchTracer() as tracer:
        other["prepare"](On("cpu"), is_qlora=True)
    assert not tracer.seen
    assert in_packages("/env/lib/python3.11/site-packages/peft/utils/other.py")
    assert not in_packages("/home/me/trl/utils.py")
    assert not in_packages("/env/lib/python3.11/site-packages/trlx/utils.py")


def plan(tmp_path: Path, *cells: PlannedCell) -> Plan:
    """A plan of these cells."""
    return Plan(
        run=str(tmp_path),
        stack="trl0.24-py311",
        lock_sha256="5f" * 32,
        torch_wanted="2.13.0",
        base_torch=False,
        device=DeviceKind.CPU,
        attention="sdpa",
        steps=10,
        seed=17,
        limit_s=60,
        cells=cells,
    )


def test_a_record_has_the_cells_of_each_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: Callable[..., dict[str, Any]]
) -> None:
    """One file for the whole plan, with what ended in an error."""
    trl = library()
    flow = "sft-peft-model"

    def run_cell(_: Plan, planned: PlannedCell) -> Observation:
        print("what a trainer prints")
        seen = healthy(flow, planned.variant)
        trl["prepare"](On("cpu" if planned.variant == NF4_PLAIN else "cuda"), is_qlora=planned.variant != BF16)
        return failed(seen, "ValueError", "no", Stage.TRAINER) if planned.variant == BF16 else seen

    monkeypatch.setattr(runner, "run_cell", run_cell)
    asked = plan(tmp_path, *(PlannedCell(flow, variant, ()) for variant in (NF4, NF4_PLAIN, BF16)))
    path = tmp_path / "plan.json"
    path.write_text(asked.to_json(), encoding="utf-8")
    branches.main(str(path))
    record = json.loads(asked.branches_file.read_text(encoding="utf-8"))
    assert (record["stack"], record["versions"]) == ("trl0.24-py311", dict(sorted(VERSIONS.items())))
    assert [TracedCell(**cell) for cell in record["cells"]] == [
        TracedCell("sft-peft-model[qwen2-nf4-gc]", emulates=True, error=""),
        TracedCell("sft-peft-model[qwen2-nf4-plain-gc]", emulates=False, error=""),
        TracedCell("sft-peft-model[qwen2-bf16-nogc]", emulates=False, error="ValueError at trainer"),
    ]
    [guard] = record["guards"]
    assert guard == {
        "file": "trl/utils.py",
        "line": 4,
        "function": "prepare",
        "condition": "is_sharded",
        "accelerator": "cuda",
        "true": [1],
        "false": [0],
    }
    assert Guard(**guard | {"accelerator": Accelerator.CUDA}).took(True) == [1]
