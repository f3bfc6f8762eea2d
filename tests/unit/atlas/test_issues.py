"""An issue over the releases: its edges are those of the cells, and what no cell could show is not called clear."""

from __future__ import annotations

import dataclasses

import builders as b
import pytest
from atlas_builders import DAY, FIELD, drawn, kept, on
from finetune_compat.atlas import wording
from finetune_compat.atlas.issues import Line, Sighting, could_show, lines, packages_of
from finetune_compat.checks.harm import Harm
from finetune_compat.checks.ledger import Ledger, Scripted
from finetune_compat.checks.windows_measured import MeasuredEdge, Side
from finetune_compat.contract.records import Observation, Stage


def line(*seen: Observation, ledger: Ledger = b.LISTED) -> Line:
    """The first issue of the ledger in a baseline with these cells."""
    return drawn({"cpu": kept(*seen, ledger=ledger)}, ledger)[1][0]


def test_the_edges_are_those_of_the_cells() -> None:
    """First and last release that shows it, and the nearest ones on both sides that do not."""
    (strip,) = drawn(FIELD)[1][0].strips
    assert [(one.version, one.sighting) for one in strip.releases] == [
        ("0.19.1", Sighting.CLEAR),
        ("0.20.0", Sighting.SEEN),
        ("0.22.2", Sighting.SEEN),
        ("0.24.0", Sighting.CLEAR),
    ]
    assert (strip.first, strip.last, strip.nearest_after, strip.nearest_before) == (
        "0.20.0",
        "0.22.2",
        "0.24.0",
        "0.19.1",
    )
    assert not strip.reaches_the_newest


def test_releases_are_ordered_as_versions() -> None:
    """0.9 is before 0.22."""
    (strip,) = line(on("0.24.0"), on("0.9.6"), b.frozen(on("0.22.2"))).strips
    assert [one.version for one in strip.releases] == ["0.9.6", "0.22.2", "0.24.0"]


def test_an_issue_that_no_newer_release_is_without() -> None:
    """Nothing after it was measured."""
    (strip,) = line(on("0.19.1"), b.frozen(on("0.22.2"))).strips
    assert strip.reaches_the_newest
    assert strip.nearest_after is None
    assert strip.nearest_before == "0.19.1"


def test_an_issue_that_is_nowhere_has_no_edges() -> None:
    """And no evidence."""
    found = line(on("0.24.0"))
    (strip,) = found.strips
    assert (strip.first, strip.last, strip.nearest_after, strip.nearest_before) == (None,) * 4
    assert (found.cells, found.first_day, found.states, found.chains) == (0, "", {}, ())


@pytest.mark.parametrize(
    "seen",
    [
        b.failed(on("0.24.0"), "AttributeError", "another fault", Stage.TRAINER),
        b.out_of_memory(on("0.24.0")),
        on("0.24.0", flow="sft-full", variant=b.FULL),
        on("0.24.0", variant=b.FULL),
    ],
    ids=["another error", "the machine", "another flow", "another precision"],
)
def test_a_release_is_clear_only_if_a_cell_could_show_it(seen: Observation) -> None:
    """A cell that ended before, or that the issue does not concern, is no sign of its absence."""
    (strip,) = line(b.frozen(on("0.22.2")), seen).strips
    assert strip.releases[-1].sighting is Sighting.UNKNOWN
    assert strip.nearest_after is None


def test_a_release_with_it_on_some_stacks_only() -> None:
    """Another package decides there."""
    (strip,) = line(b.frozen(on("0.22.2")), on("0.22.2", stack="peft0.17-py311")).strips
    assert (
        strip.releases[0].sighting is Sighting.SEEN
    )  # listed there and gone: the entry is wrong, and no cell is clear
    windows = {"trl": ">=0.20.0,<0.23.1", "peft": ">=0.17.1"}
    narrow = Ledger(issues=(b.issue(dataclasses.replace(b.FLAGSHIP, windows=windows)),))
    older = b.healthy(stack="peft0.16-py311", versions={**b.on_trl("0.22.2"), "peft": "0.16.0"})
    trl, peft = line(b.frozen(on("0.22.2")), older, ledger=narrow).strips
    assert (trl.package, [one.sighting for one in trl.releases]) == ("trl", [Sighting.PARTLY])
    assert (peft.package, [one.sighting for one in peft.releases]) == ("peft", [Sighting.CLEAR, Sighting.SEEN])


def test_an_issue_without_windows_is_drawn_over_trl() -> None:
    """Every release is listed."""
    everywhere = b.issue(dataclasses.replace(b.FLAGSHIP, windows={}))
    assert packages_of(everywhere) == ("trl",)
    (strip,) = line(b.frozen(on("0.24.0")), ledger=Ledger(issues=(everywhere,))).strips
    assert (strip.always, strip.windows, strip.first) == (True, (), "0.24.0")


def test_the_evidence_is_counted_by_baseline() -> None:
    """With the days of its cells, the states, and the flows."""
    found = drawn({"cpu": FIELD["cpu"], "other": kept(b.frozen(on("0.22.2")))})[1][0]
    assert [(baseline.name, cells) for baseline, cells in found.evidence] == [("cpu", 3), ("other", 1)]
    assert (found.cells, found.first_day, found.last_day, found.flows) == (4, DAY, DAY, ("sft-peft-model",))
    assert {state.value: number for state, number in found.states.items()} == {"silently does not": 3, "crashes": 1}


def test_a_chain_has_the_versions_of_the_newest_stack_that_has_it() -> None:
    """Chains that differ only in line numbers are one."""
    (chain,) = drawn(FIELD)[1][0].chains
    assert (chain.stack, chain.versions["trl"], chain.message) == ("trl0.22-py311", "0.22.2", "")
    assert [frame.file for frame in chain.frames][-1] == "peft/utils/other.py"


def test_an_issue_that_a_script_shows_has_the_releases_of_its_edges() -> None:
    """No cell could show it, so the stacks of the baselines are not among its releases."""
    shown = Scripted(windows={"peft": "<0.18.0"}, script="x", error="AssertionError", harm=Harm.LEARNS_NOTHING)
    issue = dataclasses.replace(
        b.issue(), id="peft#1", shows=(), scripts=(shown,)
    )  # cells show the one of the builders
    sides = [Side(version=text, stack=f"peft{text}", versions={}, shows="") for text in ("0.17.1", "0.18.0")]
    edge = MeasuredEdge(
        issue=issue.id,
        shows=0,
        package="peft",
        edge="peft<0.18.0",
        cell="tests/exam/issues/x.py",
        inside=sides[0],
        outside=sides[1],
        moved=(),
        holds=True,
        measured="2026-11-30T10:00:00Z",
        script_sha256="0" * 64,
    )
    found, _, _ = drawn()
    (one,) = lines(found, Ledger(issues=(issue,)), (edge,))
    (strip,) = one.strips
    assert [(one.version, one.sighting) for one in strip.releases] == [
        ("0.17.1", Sighting.SEEN),
        ("0.18.0", Sighting.CLEAR),
    ]
    assert (one.scripts, one.first_day, one.last_day) == (("tests/exam/issues/x.py",), "2026-11-30", "2026-11-30")
    assert (wording.severity(one), wording.symptom(one)) == ("learns nothing", "0 trainable parameters")
    assert wording.evidence(one) == [("../../tests/exam/issues/x.py", "the script x.py")]
    assert wording.release(strip, strip.releases[0]).endswith("1 of 1 script that could (peft0.17.1)")
    (unmeasured,) = lines(found, Ledger(issues=(issue,)), (dataclasses.replace(edge, holds=None),))
    assert (unmeasured.scripts, wording.severity(unmeasured)) == ((), "not seen in the baselines")


def test_without_windows_a_script_is_drawn_over_its_library() -> None:
    shown = Scripted(windows={}, script="x", error="AssertionError", harm=Harm.CRASHES)
    issue = dataclasses.replace(b.issue(), shows=(), scripts=(shown,), imports=("peft.LoraConfig",))
    assert packages_of(issue) == ("peft",)


def test_a_check_of_the_deep_tier_needs_a_deep_cell() -> None:
    """A quick cell without it says nothing about it."""
    deep = dataclasses.replace(b.FLAGSHIP, check="G402")
    assert could_show(on("0.24.0"), (b.FLAGSHIP,))
    assert not could_show(on("0.24.0"), (deep,))
