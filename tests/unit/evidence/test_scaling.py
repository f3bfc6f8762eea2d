"""The model of a run on more cores and GPUs, with the durations of the committed baseline."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from finetune_compat.contract.catalog import Tier
from finetune_compat.contract.records import DeviceKind
from finetune_compat.evidence import scaling, shards
from finetune_compat.machine.places import places
from finetune_compat.run.estimate import expected
from finetune_compat.run.parts import split


@pytest.fixture(scope="module")
def seconds() -> Mapping[str, float]:
    """Expected seconds of the cells of the baseline. Reading it takes seconds."""
    took = shards.durations("cpu", DeviceKind.CPU, Tier.FULL)
    return expected(took, took)


@pytest.fixture(scope="module")
def rows(seconds: Mapping[str, float]) -> Mapping[str, scaling.Row]:
    """The rows of the table, by machine."""
    return {row.on: row for row in scaling.rows_of(seconds)}


@pytest.mark.parametrize(("on", "most"), [*((f"{cores} cores", 1.1) for cores in (2, 16, 64, 128)), ("8 GPUs", 1.2)])
def test_all_cores_are_used_until_the_end(on: str, most: float, rows: Mapping[str, scaling.Row]) -> None:
    """On one machine and on a cluster. No schedule is below the bound."""
    row = rows[on]
    assert row.bound <= row.local <= most * row.bound
    assert row.bound <= row.ray <= most * row.bound


def test_shards_are_of_similar_duration(seconds: Mapping[str, float]) -> None:
    """The longest of 61 is at most 5 % above the mean."""
    parts = [part.seconds for part in split(seconds, 61)]
    assert max(parts) <= 1.05 * sum(parts) / len(parts)


def test_the_page_is_that_of_the_baseline(seconds: Mapping[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written again when the baseline is measured again."""
    monkeypatch.setattr(scaling, "durations", lambda *_: dict(seconds))
    page = places().reports / "benchmarks" / scaling.PAGE
    assert page.read_text(encoding="utf-8") == scaling.scaling("cpu")
