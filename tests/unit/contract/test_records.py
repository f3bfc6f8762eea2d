"""The records shared by both sides: reading returns exactly what was written."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
from builders import ADAPTER, FULL, NF4, NF4_PLAIN, census, frozen, healthy
from finetune_compat.contract.cell_id import CellId
from finetune_compat.contract.records import (
    AbsentStage,
    Actor,
    Area,
    AreaCount,
    Attention,
    Census,
    DeviceKind,
    Failure,
    Freeze,
    Frozen,
    Labels,
    LoraShape,
    Memory,
    Message,
    MetricResponse,
    ModelShape,
    Observation,
    ParameterClass,
    Reply,
    Response,
    StackRecord,
    Stage,
    Started,
    Training,
    Variant,
    VisionShape,
    to_json,
)
from finetune_compat.results import run_files
from hypothesis import given
from hypothesis import strategies as st


def decoded(record: Observation | Started) -> Observation | Started:
    """Return what the host reads of what a cell wrote."""
    return run_files._decode(to_json(record), "observations.jsonl:1")


counts = st.integers(0, 10**12)
versions = st.dictionaries(st.text(), st.text(), max_size=3)


def some(kind: type) -> st.SearchStrategy[tuple[Any, ...]]:
    """Up to two values of a record's type: two test a list as well as twenty."""
    return st.lists(st.from_type(kind), max_size=2).map(tuple)


areas = st.dictionaries(st.sampled_from(Area), st.builds(AreaCount, counts, counts), max_size=3)
censuses = st.builds(
    Census,
    trainable=counts,
    total=counts,
    by_area=areas,
    dtypes=st.dictionaries(st.text(), counts, max_size=3),
    adapters_on=st.none() | areas,
)
trainings = st.builds(
    Training,
    classes=st.dictionaries(st.text(), st.from_type(ParameterClass), max_size=3),
    frozen=st.none() | st.from_type(Frozen),
    rates_agree=st.none() | st.booleans(),
    grad_norm_logged=st.none() | st.lists(st.floats(), max_size=2).map(tuple),
    reference_before=st.none() | st.floats(),
    reference_after=st.none() | st.floats(),
    evaluated=st.none() | st.from_type(Labels),
)
observations = st.builds(
    Observation,
    stack=st.builds(StackRecord, resolved=versions),
    stages=st.lists(censuses, max_size=2).map(tuple),
    absent=some(AbsentStage),
    freezes=some(Freeze),
    training=st.none() | trainings,
    labels=st.none() | st.from_type(Labels),
    model=st.builds(ModelShape, vision=st.none() | st.from_type(VisionShape)),
    lora=st.none() | st.builds(LoraShape, language_only=st.booleans()),
    attention=st.none() | st.from_type(Attention),
    reply=st.none() | st.from_type(Reply),
    weights_sha256=st.none() | st.text(),
    options_dropped=some(str),
    warnings=some(Message),
    error=st.none() | st.from_type(Failure),
    memory=st.none() | st.builds(Memory, counts, counts, counts),
    duration_s=st.floats(),
    started_at=st.text(),
    harness_version=st.text(),
    schema=st.just(1),
)


@given(observations)
def test_any_observation_survives_the_file(seen: Observation) -> None:
    """Every field of every observation keeps its value and type, including NaN and the infinities.

    Compared by repr, because NaN is not equal to itself.
    """
    assert repr(decoded(seen)) == repr(seen)


@given(observations)
def test_a_record_is_one_line_of_standard_json(seen: Observation) -> None:
    """It has no line break and none of the constants that JSON lacks."""
    text = to_json(seen)
    assert len(text.splitlines()) == 1
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_non_finite_numbers_are_strings() -> None:
    """NaN, Infinity and -Infinity are written as strings and read back as floats."""
    seen = healthy()
    assert seen.training is not None
    odd = (math.nan, math.inf, -math.inf)
    strange = dataclasses.replace(seen, training=dataclasses.replace(seen.training, loss=odd, eval_before=math.nan))
    assert '"loss":["NaN","Infinity","-Infinity"]' in to_json(strange)
    back = decoded(strange)
    assert isinstance(back, Observation)
    assert back.training is not None
    assert str(back.training.loss) == "(nan, inf, -inf)"
    assert math.isnan(back.training.eval_before or 0.0)


def test_invalid_text_survives() -> None:
    """File names that are no UTF-8 appear in warnings as lone surrogates."""
    seen = dataclasses.replace(healthy(), harness_version="\udcff\x1b[31m\u2028")
    assert decoded(seen) == seen


def test_an_observation_of_before_memory_was_measured_is_read() -> None:
    """The schema is the same: a missing field means that it was not measured."""
    raw = json.loads(to_json(healthy()))
    del raw["memory"]
    older = dataclasses.replace(healthy(), memory=None, lacks=("Observation.memory",))
    assert run_files._decode(json.dumps(raw), "observations.jsonl:1") == older
    assert decoded(older) == older  # written again, it does not pass for a newer one


def test_a_started_line_is_not_mistaken_for_an_observation() -> None:
    """It is read back as a started line."""
    started = Started(cell=healthy().cell, started="2026-11-20T12:00:00+00:00")
    assert decoded(started) == started


def test_a_cell_has_one_spelling() -> None:
    """Stack, flow, variant, device; plain placement is part of the precision."""
    assert (
        str(CellId("trl0.22-py311", "sft-peft-model", str(NF4), DeviceKind.CPU))
        == "trl0.22-py311/sft-peft-model[qwen2-nf4-gc]@cpu"
    )
    assert str(NF4_PLAIN) == "qwen2-nf4-plain-gc"


def test_the_flows_own_census_counts_before_the_librarys() -> None:
    """The library's second preparation, inside the trainer, does not replace the user's."""
    seen = frozen(healthy())
    prepared = [c for c in seen.stages if c.name is Stage.PREPARE]
    assert [c.by for c in prepared] == [Actor.FLOW, Actor.LIBRARY]
    assert seen.census(Stage.PREPARE) is prepared[0]


def test_the_last_census_of_a_stage_counts_and_the_librarys_where_the_flow_has_none() -> None:
    """If a trainer wraps twice, the census after the second time counts."""
    first = census(Stage.PEFT, NF4, 0, adapters=True, by=Actor.LIBRARY)
    last = census(Stage.PEFT, NF4, ADAPTER, adapters=True, by=Actor.LIBRARY)
    seen = dataclasses.replace(healthy("sft-peft-config"), stages=(first, last))
    assert seen.census(Stage.PEFT) is last
    assert seen.census(Stage.RELOAD) is None


@pytest.mark.parametrize(
    ("variant", "quantized", "four_bit"), [(NF4, True, True), (NF4_PLAIN, True, True), (FULL, False, False)]
)
def test_precisions_know_how_they_store(variant: Variant, *, quantized: bool, four_bit: bool) -> None:
    """Only 4-bit storage packs weights."""
    assert (variant.precision.quantized, variant.precision.four_bit) == (quantized, four_bit)


@pytest.mark.parametrize(
    ("metric", "moved"),
    [
        (MetricResponse(1.0, 1.0, 1.0, 1.0), False),
        (MetricResponse(1.0, 1.0, 0.9, 1.0), True),
        (MetricResponse(1.0, 1.0, 1.0, 0.9), True),
        (MetricResponse(1.0, 0.8, 0.9, 1.1), False),
        (MetricResponse(1.0, 0.8, 0.7, 1.0), False),
        (MetricResponse(1.0, 0.8, 0.3, 1.0), True),
        (MetricResponse(1.0, math.nan, 0.3, 1.0), False),
        (MetricResponse(1.0, 1.0, math.nan, 1.0), True),
        (MetricResponse(1.0, 1.0, math.inf, 1.0), True),
        (MetricResponse(math.nan, math.nan, math.nan, math.nan), False),
        (MetricResponse(math.nan, math.nan, 4.9, math.nan), True),
        (MetricResponse(math.inf, math.inf, math.inf, math.inf), False),
    ],
)
def test_a_metric_moves_by_more_than_its_own_noise(metric: MetricResponse, moved: bool) -> None:
    """The noise is that of a second evaluation of the same model; NaN differs from a number."""
    assert metric.moved is moved


def test_an_evaluation_without_metrics_responds_to_nothing() -> None:
    """There was no metric that could change."""
    assert not Response({}).responds
