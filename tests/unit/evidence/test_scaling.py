"""The model of a run on more cores and GPUs, with the durations of the committed baseline."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from finetune_compat.contract.catalog import Tier
from finetune_compat.contract.records import DeviceKind
from finetune_compat.evidence import scaling, shards
from finetune_compat.machine.places import places
from finetune_compat.run.estimate import START_S, expected
from finetune_compat.run.parts import least, split


@pytest.fixture(scope="module")
def seconds() -> Mapping[str, float]:
    """Expected seconds of the cells of the baseline. Reading it takes seconds."""
    took = shards.durations("cpu", DeviceKind.CPU, Tier.FULL)
    return expected(took, took)


@pytest.mark.parametrize(
    ("workers", "most"),
    [*((cores, 1.1) for cores in scaling.CORES), *((gpus * scaling.ON_A_GPU, 1.2) for gpus in scaling.GPUS)],
)
def test_parts_of_cells_are_close_to_the_bound(workers: int, most: float, seconds: Mapping[str, float]) -> None:
    """No schedule is below it."""
    assert max(part.seconds for part in split(seconds, workers)) <= most * least(seconds, workers)


def test_the_page_is_that_of_the_baseline(seconds: Mapping[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written again when the baseline is measured again."""
    monkeypatch.setattr(scaling, "durations", lambda *_: dict(seconds))
    page = places().reports / "benchmarks" / scaling.PAGE
    assert page.read_text(encoding="utf-8") == scaling.scaling("cpu")


def test_stacks_one_by_one_on_several_gpus() -> None:
    """Each stack is started, and its cells share the GPUs."""
    seconds = {f"trl0.{stack}-py311/sft-full[v{cell}]@cuda": 3.0 for stack in range(2) for cell in range(5)}
    assert scaling.one_by_one(seconds, 1) == 2 * (START_S + 15)
    assert scaling.one_by_one(seconds, 2) == 2 * (START_S + 9)
