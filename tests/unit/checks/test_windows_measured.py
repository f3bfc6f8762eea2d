"""Which edges of the ledger's windows were measured by package, and that the committed file claims nothing else."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from finetune_compat.checks.ledger import Ledger, Signature, load_ledger
from finetune_compat.checks.windows_measured import MeasuredEdge, Side, bases_of, edge_name, read_windows
from finetune_compat.contract.errors import RecordsError
from packaging.specifiers import SpecifierSet
from packaging.version import Version

EDGES = read_windows()
LEDGER = load_ledger()


def signature_of(one: MeasuredEdge, ledger: Ledger = LEDGER) -> Signature:
    """The signature that an edge is of."""
    return next(issue for issue in ledger.issues if issue.id == one.issue).shows[one.shows]


@pytest.mark.parametrize("one", EDGES, ids=lambda one: f"{one.issue} {one.shows} {one.edge}")
class TestTheCommittedFile:
    def test_the_ledger_has_the_edge(self, one: MeasuredEdge) -> None:
        """A window that is moved needs a new measurement."""
        window = SpecifierSet(signature_of(one).windows[one.package])
        assert window.contains(one.inside.version) and not window.contains(one.outside.version)
        assert one.edge == edge_name(one.package, one.inside.version, one.outside.version)

    def test_the_edge_names_a_version_between_both_releases(self, one: MeasuredEdge) -> None:
        """The window ends there, and not at another of its edges."""
        low, high = sorted((Version(one.inside.version), Version(one.outside.version)))
        named = [Version(part.version) for part in SpecifierSet(signature_of(one).windows[one.package])]
        assert any(low <= version <= high for version in named)

    def test_the_other_windows_take_in_the_release_inside(self, one: MeasuredEdge) -> None:
        for package, window in signature_of(one).windows.items():
            assert SpecifierSet(window).contains(one.inside.versions[package])

    def test_by_package_means_that_nothing_else_moved(self, one: MeasuredEdge) -> None:
        sides = (one.inside, one.outside)
        assert [side.versions[one.package] for side in sides] == [side.version for side in sides]
        others = [{name: v for name, v in side.versions.items() if name != one.package} for side in sides]
        assert not one.by_package or others[0] == others[1]

    def test_it_holds_where_it_is_claimed(self, one: MeasuredEdge) -> None:
        """A window of the ledger that its own measurement contradicts must be corrected."""
        assert one.holds is not False
        assert one.holds is None or one.inside.shows.startswith(one.issue) or f", {one.issue}" in one.inside.shows


SIDE = Side(version="0.20.0", stack="trl0.20-py311", versions={"trl": "0.20.0"}, shows="trl#3926: C104")
EDGE = MeasuredEdge(
    issue="trl#3926",
    shows=0,
    package="trl",
    edge="trl>=0.20.0",
    cell="sft-peft-model[qwen2-nf4-gc]",
    inside=SIDE,
    outside=dataclasses.replace(SIDE, version="0.19.1"),
    moved=(),
    holds=True,
    measured="2026-11-30T07:00:00Z",
)


@pytest.mark.parametrize(
    ("changes", "by_package", "answer"),
    [
        ({}, True, "measured by package"),
        ({"moved": ("peft 0.16.0 -> 0.17.0",)}, False, "holds, with other packages that moved"),
        ({"holds": False}, False, "does not hold"),
        ({"holds": None}, False, "could not be measured"),
    ],
)
def test_the_answer(changes: dict[str, object], by_package: bool, answer: str) -> None:
    one = dataclasses.replace(EDGE, **changes)  # type: ignore[arg-type]
    assert (one.by_package, one.answer) == (by_package, answer)


def test_an_edge_is_named_by_the_releases_beside_it() -> None:
    assert edge_name("trl", "0.20.0", "0.19.1") == "trl>=0.20.0"
    assert edge_name("trl", "0.23.0", "0.23.1") == "trl<0.23.1"


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "windows.json"
    assert read_windows(path) == ()
    path.write_text(json.dumps([dataclasses.asdict(EDGE)]))
    assert read_windows(path) == (EDGE,)


@pytest.mark.parametrize("text", ["", "{}", "[{}]", '[{"inside": 1}]'])
def test_another_file_is_one_message(tmp_path: Path, text: str) -> None:
    path = tmp_path / "windows.json"
    path.write_text(text if text != "{}" else '{"a": 1}')
    with pytest.raises(RecordsError, match="not a list of measured edges"):
        read_windows(path)


class TestBases:
    """`trl#3926` has two signatures with the same window."""

    ISSUE = next(issue for issue in LEDGER.issues if issue.id == EDGE.issue)
    BOTH = (EDGE, dataclasses.replace(EDGE, shows=1))

    def test_an_edge_is_by_package_if_it_was_measured_for_every_signature(self) -> None:
        window = {">=0.20.0": "by package", "<0.23.1": "between stacks"}
        assert bases_of(self.ISSUE, self.ISSUE.shows, self.BOTH) == {"trl": window}
        assert bases_of(self.ISSUE, self.ISSUE.shows, self.BOTH[:1])["trl"][">=0.20.0"] == "between stacks"
        assert bases_of(self.ISSUE, self.ISSUE.shows[:1], self.BOTH[:1]) == {"trl": window}

    @pytest.mark.parametrize("changes", [{"holds": False}, {"moved": ("peft 0.16.0 -> 0.17.0",)}, {"issue": "other"}])
    def test_only_a_package_alone_counts(self, changes: dict[str, object]) -> None:
        edges = [dataclasses.replace(edge, **changes) for edge in self.BOTH]  # type: ignore[arg-type]
        assert set(bases_of(self.ISSUE, self.ISSUE.shows, edges)["trl"].values()) == {"between stacks"}

    @pytest.mark.parametrize("one", [one for one in EDGES if one.by_package], ids=lambda one: f"{one.key}")
    def test_the_ledger_names_each_measured_edge_in_the_same_way(self, one: MeasuredEdge) -> None:
        """Another name would hide it."""
        issue = next(issue for issue in LEDGER.issues if issue.id == one.issue)
        found = bases_of(issue, (signature_of(one),), EDGES)
        assert found[one.package][one.edge.removeprefix(one.package)] == "by package"
