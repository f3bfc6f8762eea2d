"""Cells that are shown in full: which ones, and what they are compared with."""

from __future__ import annotations

import builders as b
import pytest
from builders import FULL, INT8, NF4, frozen, healthy, ran, results_of
from finetune_compat.contract.catalog import CATALOG
from finetune_compat.contract.records import DeviceKind, Observation, Variant
from finetune_compat.report.exhibits import MOST, MOST_OF_A_FAILURE, Exhibit, again, exhibits_of, twins
from finetune_compat.results.lines import line_of
from finetune_compat.results.summary import summarize
from finetune_compat.stacks.matrix import session_of


def at(trl: str, flow: str = "sft-peft-model", variant: Variant = NF4) -> Observation:
    """Make a healthy cell on that release."""
    return healthy(flow, variant, stack=f"trl{trl}-py311", versions=b.on_trl(f"{trl}.0"))


def exhibits(*seen: Observation, asked: str | None = None) -> tuple[Exhibit, ...]:
    """Return the exhibits of a run of these cells, with an empty ledger."""
    stacks = {each.stack.name: [other for other in seen if other.stack == each.stack] for each in seen}
    results = results_of([ran(*cells) for cells in stacks.values()], *seen)
    wanted = (lambda cell: asked in cell) if asked is not None else None
    return exhibits_of(summarize(results, b.UNLISTED), results.observations, wanted)


def test_a_cell_stands_beside_the_nearest_release_that_passes_and_its_correct_twin() -> None:
    """An earlier release is preferred; the twin has the same stack and variant."""
    (shown,) = exhibits(at("0.10"), at("0.19"), frozen(at("0.22")), at("0.24"), at("0.22", "sft-peft-config"))
    assert shown.here.line.cell == "trl0.22-py311/sft-peft-model[qwen2-nf4-gc]@cpu"
    assert shown.before is not None and shown.before.line.stack == "trl0.19-py311"
    assert shown.twin is not None and shown.twin.line.cell == "trl0.22-py311/sft-peft-config[qwen2-nf4-gc]@cpu"


def test_a_release_that_fails_too_is_no_comparison() -> None:
    """Then it is compared with the next release after it."""
    shown = exhibits(frozen(at("0.20")), frozen(at("0.22")), at("0.24"))
    assert {item.before.line.stack for item in shown if item.before} == {"trl0.24-py311"}


def test_cells_of_one_cause_are_few() -> None:
    """Twenty cells that froze in the same way need one look."""
    flows = [flow for flow in CATALOG if flow.name == "sft-peft-model"]
    cells = [frozen(at("0.22", flow.name, variant)) for flow in flows for variant in flow.variants]
    assert len(cells) > MOST_OF_A_FAILURE
    assert len(exhibits(*cells)) == MOST_OF_A_FAILURE


def test_healthy_cells_are_shown_when_asked_for_and_never_more_than_a_page_holds() -> None:
    """`--cells` includes passing cells."""
    assert exhibits(at("0.22", variant=FULL)) == ()
    assert len(exhibits(at("0.22", variant=FULL), at("0.22", variant=INT8), asked="int8")) == 1
    many = [at(f"0.{number}") for number in range(MOST + 5)]
    assert len(exhibits(*many, asked="")) == MOST


def test_a_cell_without_an_observation_has_nothing_to_show() -> None:
    """Its cause has the reason."""
    lost = "trl0.22-py311/sft-full[qwen2-full-gc]@cpu"
    results = results_of([ran(at("0.22"), lost=(lost,))], at("0.22"))
    assert exhibits_of(summarize(results, b.UNLISTED), results.observations) == ()


@pytest.mark.parametrize("flow", CATALOG, ids=lambda flow: flow.name)
def test_a_twin_is_correct_another_flow_and_trains_the_same(flow: object) -> None:
    """Flows with the same data come first."""
    every = {f"s/{other.name}[v]@cpu": other for other in CATALOG}
    own = next(other for other in CATALOG if other is flow)
    found = [every[cell] for cell in twins(f"s/{own.name}[v]@cpu", own.name, every)]
    assert own not in found
    assert all(other.correct and other.subject is own.subject for other in found)
    kinds = [other.name.partition("-")[0] == own.name.partition("-")[0] for other in found]
    assert kinds == sorted(kinds, reverse=True)


def test_the_command_names_exactly_the_cell() -> None:
    """-k of pytest takes brackets; a GPU is requested."""
    seen = healthy("sft-peft-model", FULL, stack="trl0.22.0-py311", device=DeviceKind.CUDA)
    results = results_of([ran(seen)], seen)
    line = line_of(results.verdicts[0], seen)
    command = "nox -s \"compat-3.11(trl='0.22.0')\" -- -k 'sft-peft-model[qwen2-full-gc]' --device cuda"
    assert again(line, seen) == command


@pytest.mark.parametrize(
    ("name", "session"),
    [
        ("trl0.22-py311", "compat-3.11(trl='0.22')"),
        ("trl0.23.0-py312", "compat-3.12(trl='0.23.0')"),
        ("transformers5.23-py311", "compat-3.11(transformers='5.23')"),
        ("from-uv-lock", None),
    ],
)
def test_a_stack_has_a_session_if_the_matrix_has_it(name: str, session: str | None) -> None:
    """A stack that a gate resolved has none."""
    assert session_of(name) == session
