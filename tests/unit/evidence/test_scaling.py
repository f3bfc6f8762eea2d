"""The model of a run on more cores and GPUs, with the durations of the committed baseline."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from finetune_compat.contract.catalog import Tier
from finetune_compat.contract.records import DeviceKind
from finetune_compat.evidence import scaling, shards
from finetune_compat.machine.places import places
from finetune_compat.run.estimate import Took, expected
from finetune_compat.run.parts import split


@pytest.fixture(scope="module")
def took() -> Took:
    """What the cells of the baseline took. Reading it takes seconds."""
    return shards.durations("cpu", DeviceKind.CPU, Tier.FULL)


@pytest.fixture(scope="module")
def seconds(took: Took) -> Mapping[str, float]:
    """Expected seconds of the cells."""
    return expected(took.wall, took.seconds)


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


@pytest.mark.parametrize(
    ("cpu", "said"),
    [
        ({}, "No cell has recorded CPU seconds: all count with their wall-clock seconds."),
        ({"a/f[x]@cpu": 1.0, "b/f[x]@cpu": 2.0}, "2 of 2 cells have recorded CPU seconds."),
        (
            {"a/f[x]@cpu": 1.0},
            (
                "1 of 2 cells have recorded CPU seconds. The others count with their wall-clock seconds times 0.50, "
                "the median of cells with both."
            ),
        ),
    ],
)
def test_the_page_says_which_seconds_it_has(cpu: dict[str, float], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader must know how many are of a busy machine's clock."""
    monkeypatch.setattr(scaling, "durations", lambda *_: Took({"a/f[x]@cpu": 2.0, "b/f[x]@cpu": 4.0}, cpu))
    assert f"\n\n{said}\n\n" in scaling.scaling("cpu")


def test_the_page_is_that_of_the_baseline(took: Took, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written again when the baseline is measured again."""
    monkeypatch.setattr(scaling, "durations", lambda *_: took)
    page = places().reports / "benchmarks" / scaling.PAGE
    assert page.read_text(encoding="utf-8") == scaling.scaling("cpu")
