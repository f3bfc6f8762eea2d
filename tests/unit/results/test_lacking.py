"""Which fields of today's records a stored line does not have."""

from __future__ import annotations

import json
from typing import Any

import pytest
from builders import healthy, real
from deep_builders import deep
from finetune_compat.contract.records import to_json
from finetune_compat.results.lacking import lacking


def raw(seen: Any = None) -> Any:
    return json.loads(to_json(seen or deep(healthy())))


def test_what_this_harness_writes_lacks_nothing() -> None:
    """With and without the deep tier, and for real weights."""
    assert [lacking(raw(seen)) for seen in (healthy(), deep(healthy()), real())] == [(), (), ()]


@pytest.mark.parametrize(
    ("remove", "field"),
    [
        (lambda line: line.pop("memory"), "Observation.memory"),
        (lambda line: line["training"].pop("still_layers"), "Training.still_layers"),
        (
            lambda line: next(iter(line["training"]["classes"].values())).pop("moving_until"),
            "ParameterClass.moving_until",
        ),
        (lambda line: line["memory"].pop("peak_bytes"), "Memory.peak_bytes"),
        (lambda line: line["stages"][0].pop("active"), "Census.active"),
        (lambda line: next(iter(line["stages"][-1]["by_area"].values())).pop("total"), "AreaCount.total"),
        (lambda line: line["deep"]["repeats"][0].pop("after"), "LossPair.after"),
        (lambda line: line["training"]["evaluated"].pop("ends"), "Labels.ends"),
    ],
)
def test_a_field_that_is_not_in_the_line_is_named_with_its_record(remove: Any, field: str) -> None:
    """At any depth: in a record, a sequence or a mapping of records. One record without it is enough."""
    line = raw()
    remove(line)
    assert lacking(line) == (field,)


def test_a_record_that_is_not_there_lacks_nothing() -> None:
    """The training of a flow that did not train."""
    line = raw(healthy())
    line["training"] = None
    assert lacking(line) == ()
