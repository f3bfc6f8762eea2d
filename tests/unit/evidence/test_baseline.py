"""The ledger against the committed baselines: it explains every deviation, and every edge of its windows is exact.

A baseline holds the observations of a whole run of the matrix on real versions, on one machine. Judging them again
needs no torch. Deviations of one kind of machine appear only in the baseline of such a machine.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from finetune_compat.checks import Outcome
from finetune_compat.checks.codes import DEEP_CHECKS
from finetune_compat.checks.judge import missing_for
from finetune_compat.checks.ledger import Issue, Place, Signature
from finetune_compat.checks.ledger_file import MEASURED, load_ledger
from finetune_compat.contract.catalog import CATALOG, cells_on, flow_named
from finetune_compat.contract.records import DeviceKind, Observation, Precision
from finetune_compat.evidence.measured import PACKAGES, measured_of
from finetune_compat.machine.places import places
from finetune_compat.report import aged, markdown, summarize
from finetune_compat.results.run_files import RowState, judge_one, judged, read_observations, read_rows
from finetune_compat.run.stack_run import exists
from finetune_compat.stacks.locks import Unsolvable, locked
from finetune_compat.stacks.matrix import read_matrix
from packaging.specifiers import SpecifierSet
from packaging.version import Version

BASELINES = places().baselines

KEPT = sorted(BASELINES.iterdir())

each_baseline = pytest.mark.parametrize("baseline", KEPT, ids=lambda path: path.name)


@cache
def of(baseline: Path) -> tuple[Observation, ...]:
    return tuple(read_observations(baseline / "observations.jsonl")[1].values())


@cache
def observations() -> tuple[Observation, ...]:
    return tuple(seen for baseline in KEPT for seen in of(baseline))


@cache
def measured(package: str) -> tuple[Version, ...]:
    return tuple(sorted({Version(seen.stack.resolved[package]) for seen in observations()}))


def stacks_with(flows: set[str]) -> set[str]:
    """Return every row of the matrix on Python 3.11 whose locked versions have a cell of `flows`."""
    matrix = read_matrix()
    locks = {stack.on("3.11"): locked(matrix.plan(stack, "3.11")) for stack in matrix.stacks}
    cells = [(flow, variant) for flow, variant in cells_on(DeviceKind.CPU) if flow.name in flows]
    return {
        name
        for name, lock in locks.items()
        if isinstance(lock, Unsolvable) or any(exists(*cell, lock.requirements) for cell in cells)
    }


def test_only_a_release_without_a_flow_may_be_missing() -> None:
    """The oldest flows are in every row; a newer flow is missing in older rows."""
    assert stacks_with({"sft-peft-config"}) == {stack.on("3.11") for stack in read_matrix().stacks}
    assert "trl0.9-py311" in stacks_with({"dpo-peft-config"})
    assert "trl0.8-py311" not in stacks_with({"dpo-peft-config"})


@each_baseline
def test_a_baseline_is_whole(baseline: Path) -> None:
    """Each of its rows is of the matrix, and ran to its end or has a reason. Each of its cells is of a row."""
    rows = {row.name: row for row in read_rows(baseline)}
    assert rows.keys() <= stacks_with({seen.flow for seen in of(baseline)})
    assert all(row.state in (RowState.RAN, RowState.UNINSTALLABLE) for row in rows.values())
    assert {cell for row in rows.values() for cell in row.selected} == {seen.cell for seen in of(baseline)}


@pytest.mark.parametrize("flow", [flow.name for flow in CATALOG])
def test_every_stack_of_the_matrix_is_measured_with_every_flow(flow: str) -> None:
    """In one baseline or another. The windows of the ledger are compared with them."""
    rows = [row for baseline in KEPT for row in read_rows(baseline)]
    never = {row.name for row in rows if row.state is RowState.UNINSTALLABLE}
    assert never | {seen.stack.name for seen in observations() if seen.flow == flow} == stacks_with({flow})


def test_every_pinned_stack_is_measured_in_the_deep_tier() -> None:
    """What an index gives today moves every day: it may be missing."""
    pinned = {stack.on("3.11") for stack in read_matrix().stacks if stack.package}
    deep = next(baseline for baseline in KEPT if baseline.name == "cpu-deep")
    assert pinned & stacks_with({seen.flow for seen in of(deep)}) <= {row.name for row in read_rows(deep)}


@each_baseline
def test_every_deviation_of_a_baseline_is_listed(baseline: Path) -> None:
    """Under today's ledger and checks, no cell of a baseline fails."""
    ledger = load_ledger()
    wrong = {
        verdict.cell: verdict.reason
        for verdict in (judge_one(seen, ledger) for seen in of(baseline))
        if verdict.outcome not in (Outcome.PASS, Outcome.XFAIL)
    }
    assert wrong == {}


def test_every_signature_of_the_ledger_is_seen() -> None:
    """Each signature applies to at least one cell of a baseline."""
    unseen = [
        (issue.id, signature)
        for issue in load_ledger().issues
        for signature in issue.shows
        if not any(applies(signature, seen) for seen in observations())
    ]
    assert unseen == []


def test_every_entry_says_whether_the_bug_is_silent() -> None:
    """A release that turns a loud failure silent must not stay listed: every signature names one form."""
    two_faced = [s for issue in load_ledger().issues for s in issue.shows if s.error and s.symptom]
    assert two_faced == []


@each_baseline
def test_the_committed_summary_is_up_to_date(baseline: Path) -> None:
    """After a change of ledger, checks or wording: compat report reports/baseline/<name>"""
    ledger = load_ledger()
    told = markdown.render(aged(summarize(judged(baseline, ledger), ledger)))
    assert (baseline / "summary.md").read_text(encoding="utf-8") == told


def leaning(baseline: Path) -> set[tuple[str, str, str]]:
    """Issue, check and field, where the evidence of a deviation needs a field that a cell in its window lacks."""
    ledger = load_ledger()
    return {
        (entry.issue, entry.check, field)
        for seen in of(baseline)
        for entry in ledger.listed(seen.flow, seen.variant, seen.device.kind, seen.stack.resolved)
        for field in missing_for(entry, seen, flow_named(seen.flow))
    }


LEANS: dict[str, set[tuple[str, str, str]]] = {}
"""What is known to lean on a field that a baseline lacks, by baseline, until `compat renew` measures it again."""


@each_baseline
def test_the_ledger_leans_on_no_field_that_a_baseline_lacks(baseline: Path) -> None:
    """An entry whose check reads a field is held against cells that have it. An exception that is over must go."""
    assert leaning(baseline) == LEANS.get(baseline.name, set())


def test_a_field_that_evidence_needs_and_a_cell_lacks_is_found() -> None:
    """The gradients of a cell in whose window gradients fail."""
    seen = next(seen for seen in of(BASELINES / "cpu") if seen.training and not seen.error)
    older = dataclasses.replace(seen, lacks=("Training.gradients", "Observation.memory"))
    entry = next(
        issue.deviation(shows, None, None)
        for issue in load_ledger().issues
        for shows in issue.shows
        if shows.check == "G401"
    )
    assert missing_for(entry, older, flow_named(seen.flow)) == {"Training.gradients"}


NAN = float("nan")


@cache
def trained_and_passing(baseline: Path) -> tuple[Observation, ...]:
    ledger = load_ledger()
    return tuple(seen for seen in of(baseline) if seen.training and judge_one(seen, ledger).outcome is Outcome.PASS)


def _nan(measured: object) -> object:
    """The same value with NaN for every number."""
    return NAN if isinstance(measured, float) else tuple(NAN for _ in measured)  # type: ignore[attr-defined]


@each_baseline
@pytest.mark.parametrize("fields", [("loss",), ("grad_norm",), ("eval_before", "eval_after"), ("eval_after",)])
def test_no_cell_passes_with_numbers_that_are_nan(baseline: Path, fields: tuple[str, ...]) -> None:
    """A passing cell fails if its train losses, gradient norms or eval losses become NaN, in every flow, variant and
    stack.
    """
    ledger = load_ledger()
    assert trained_and_passing(baseline)
    for seen in trained_and_passing(baseline):
        assert seen.training is not None
        changes = {field: _nan(getattr(seen.training, field)) for field in fields}
        training = dataclasses.replace(seen.training, **changes)  # type: ignore[arg-type]  # fields by name
        verdict = judge_one(dataclasses.replace(seen, training=training), ledger)
        assert verdict.outcome is Outcome.FAIL, (seen.cell, fields)


@each_baseline
def test_int8_and_emulated_nf4_agree(baseline: Path) -> None:
    """Where a baseline has both, stages, trainable counts, freezing lines and verdicts agree."""
    ledger = load_ledger()
    by_place: dict[tuple[object, ...], dict[Precision, object]] = {}
    for seen in of(baseline):
        variant = seen.variant
        if variant.precision in (Precision.NF4, Precision.INT8):
            place = (seen.stack.name, seen.flow, variant.model, variant.gradient_checkpointing)
            stages = [(census.name, census.by, census.trainable) for census in seen.stages]
            freezes = [(freeze.stage, freeze.parameters, freeze.frames[-2:]) for freeze in seen.freezes]
            outcome = judge_one(seen, ledger).outcome
            by_place.setdefault(place, {})[variant.precision] = (stages, seen.absent, freezes, outcome)
    both = {place: found for place, found in by_place.items() if len(found) == 2}
    assert bool(both) is any(seen.variant.precision is Precision.INT8 for seen in of(baseline))
    assert [place for place, found in both.items() if found[Precision.NF4] != found[Precision.INT8]] == []


def applies(signature: Signature, seen: Observation) -> bool:
    return signature.takes_in(seen.flow, seen.variant, seen.device.kind, seen.stack.resolved)


@cache
def of_flow(flow: str) -> tuple[Observation, ...]:
    return tuple(seen for seen in observations() if seen.flow == flow)


def measured_with(signature: Signature, package: str) -> tuple[Version, ...]:
    """The releases of a package in the cells that are all else that a signature says.

    Others prove nothing about an edge: a row has one release of each package, so most pairs of releases never ran.
    """
    others = {name: window for name, window in signature.windows.items() if name != package}
    rest = dataclasses.replace(signature, windows=others)
    able = (
        seen
        for flow in dict.fromkeys(signature.flows)
        for seen in of_flow(flow)
        if applies(rest, seen) and has_data(rest, seen)
    )
    return tuple(sorted({Version(seen.stack.resolved[package]) for seen in able}))


def has_data(signature: Signature, seen: Observation) -> bool:
    return seen.deep is not None or signature.check not in DEEP_CHECKS


def shifts(signature: Signature) -> Iterator[tuple[str, str, Signature]]:
    """Move one edge of one window by one measured release, outwards and inwards."""
    for package, window in signature.windows.items():
        moves = holes if window.startswith("!=") else edges
        for how, moved in moves(window, measured_with(signature, package)):
            windows = {**signature.windows, package: moved}
            yield package, how, dataclasses.replace(signature, windows=windows)


def place_cases() -> list[object]:
    return [
        pytest.param(place, moved, id=f"{ledger_place.name}-{place}-{package}-{how.replace(' ', '-')}")
        for place, ledger_place in enumerate(load_ledger().places)
        for package, window in ledger_place.windows.items()
        for how, moved_window in edges(window, measured(package))
        for moved in [dataclasses.replace(ledger_place, windows={**ledger_place.windows, package: moved_window})]
    ]


def holes(window: str, versions: tuple[Version, ...]) -> Iterator[tuple[str, str]]:
    """Exclude one release from a window by excluding its neighbours."""
    place = versions.index(Version(window.removeprefix("!=")))
    yield "leaves out the one before", f"!={versions[place - 1]}"
    yield "leaves out the one after", f"!={versions[place + 1]}"


def edges(window: str, versions: tuple[Version, ...]) -> Iterator[tuple[str, str]]:
    """Replace the first or last measured release of a window."""
    inside = [version for version in versions if SpecifierSet(window).contains(version, prereleases=True)]
    first, last = versions.index(inside[0]), versions.index(inside[-1])
    moves = []
    if ">" in window or "==" in window:
        moves += [("starts earlier", first - 1, last), ("starts later", first + 1, last)]
    if "<" in window or "==" in window:
        moves += [("ends earlier", first, last - 1), ("ends later", first, last + 1)]
    for how, low, high in moves:
        if low >= 0 and high < len(versions):
            # An empty window is written as one that contains no version.
            yield how, f">={versions[low]},<={versions[high]}" if low <= high else "<0"


def shift_cases() -> list[object]:
    return [
        pytest.param(issue, place, moved, id=f"{issue.id}-{place}-{package}-{how.replace(' ', '-')}")
        for issue in load_ledger().issues
        for place, signature in enumerate(issue.shows)
        for package, how, moved in shifts(signature)
    ]


@pytest.mark.parametrize(("issue", "place", "moved"), shift_cases())
def test_a_window_moved_by_one_release_fails(issue: Issue, place: int, moved: Signature) -> None:
    """Any edge of any window, moved by one measured release either way, makes at least one cell fail."""
    original = issue.shows[place]
    shows = (*issue.shows[:place], moved, *issue.shows[place + 1 :])
    whole = load_ledger()
    issues = tuple(dataclasses.replace(other, shows=shows) if other.id == issue.id else other for other in whole.issues)
    ledger = dataclasses.replace(whole, issues=issues)
    touched = [seen for seen in observations() if applies(original, seen) != applies(moved, seen)]
    assert any(judge_one(seen, ledger).outcome is Outcome.FAIL for seen in touched)


@pytest.mark.parametrize(("place", "moved"), place_cases())
def test_a_place_moved_by_one_release_fails(place: int, moved: Place) -> None:
    """Any edge of the window of a place, moved by one measured release either way, makes at least one cell fail."""
    whole = load_ledger()
    places = tuple(moved if i == place else other for i, other in enumerate(whole.places))
    ledger = dataclasses.replace(whole, places=places)
    touched = (seen for seen in observations() if inside(whole.places[place], seen) != inside(moved, seen))
    assert any(judge_one(seen, ledger).outcome is Outcome.FAIL for seen in touched)


def inside(place: Place, seen: Observation) -> bool:
    """Whether the place is there in the releases of a cell."""
    return all(
        SpecifierSet(window).contains(seen.stack.resolved[package], prereleases=True)
        for package, window in place.windows.items()
    )


def test_the_measured_releases_are_those_of_the_baselines() -> None:
    """After a change of a baseline by hand, `compat keep` writes them again."""
    written = json.loads(places().ledger.with_name(MEASURED).read_text(encoding="utf-8"))
    assert written == measured_of(observations())


def beyond(seen: Observation, package: str) -> Observation:
    """The same on a release of a package that nobody measured."""
    return dataclasses.replace(
        seen, stack=dataclasses.replace(seen.stack, resolved={**seen.stack.resolved, package: "99.0"})
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_no_xfail_covers_a_release_that_was_not_measured(package: str) -> None:
    """Entries without an upper edge claim nothing about the next release: what fails like them fails."""
    ledger = load_ledger()
    listed = {(seen.flow, seen.variant): seen for seen in observations() if judge_one(seen, ledger).kind}
    verdicts = [judge_one(beyond(seen, package), ledger) for seen in listed.values()]
    assert {verdict.outcome for verdict in verdicts} == {Outcome.FAIL}
    alike = [verdict for verdict in verdicts if verdict.unmeasured]
    assert alike
    assert all(
        verdict.reason.startswith("looks like ") and f"{package} 99.0, measured until " in verdict.reason
        for verdict in alike
    )
