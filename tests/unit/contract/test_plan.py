"""The plan: the cell process reads what the host wrote."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from builders import NF4
from finetune_compat.checks import Deviation, Symptom
from finetune_compat.contract.plan import Plan, PlannedCell, read_plan
from finetune_compat.contract.records import DeviceKind, Precision, Variant
from hypothesis import given
from hypothesis import strategies as st

plans = st.builds(
    Plan,
    limit_s=st.floats(allow_nan=False),
    model=st.none() | st.text(),
    cells=st.lists(
        st.builds(PlannedCell, listed=st.lists(st.from_type(Deviation), max_size=2).map(tuple)), max_size=2
    ).map(tuple),
)


def read_back(plan: Plan) -> Plan:
    """The plan after a round trip through its file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plan.json"
        path.write_text(plan.to_json(), encoding="utf-8")
        return read_plan(path)


@given(plans)
def test_any_plan_survives_its_file(plan: Plan) -> None:
    """Every field keeps its value and type: enums are enums, lists are tuples, missing values are None."""
    assert repr(read_back(plan)) == repr(plan)


def example() -> Plan:
    """A plan of one cell with one deviation."""
    deviation = Deviation(
        issue="trl#3926",
        title="It freezes",
        link="https://github.com/huggingface/trl/issues/3926",
        kind="upstream",
        check="C104",
        symptom=Symptom.FLAT,
    )
    cell = PlannedCell("sft-peft-model", NF4, (deviation,))
    return Plan("/runs/one", "trl0.22-py311", "5f" * 32, "2.13.0", True, DeviceKind.CPU, "sdpa", 10, 0, 120.0, (cell,))


def test_enums_are_enums_again() -> None:
    """Comparison by identity, which the judge uses, works in the cell process."""
    plan = read_back(example())
    assert plan == example()
    assert plan.device is DeviceKind.CPU
    [cell] = plan.cells
    assert cell.variant.precision is Precision.NF4
    assert cell.listed[0].symptom is Symptom.FLAT


def test_a_plan_is_plain_json() -> None:
    """A person can read what was requested of a cell process."""
    raw = json.loads(example().to_json())
    assert (raw["device"], raw["limit_s"], raw["cells"][0]["variant"]["precision"]) == ("cpu", 120.0, "nf4")


def test_cells_have_the_same_names_everywhere() -> None:
    """The name of a test is flow and variant; the id adds stack and device."""
    plan = example()
    [cell] = plan.cells
    assert str(cell) == "sft-peft-model[qwen2-nf4-gc]"
    assert plan.id_of(cell) == "trl0.22-py311/sft-peft-model[qwen2-nf4-gc]@cpu"
    assert str(PlannedCell("sft-full", Variant("llama", Precision.FULL, False), ())) == "sft-full[llama-full-nogc]"


def test_the_selection_is_written_beside_the_run_by_stack() -> None:
    """Parallel stacks neither overwrite each other's files nor remove each other's models."""
    assert example().selected_file == Path("/runs/one/selected/trl0.22-py311.txt")
    assert example().scratch == Path("/runs/one/scratch/trl0.22-py311")
