"""Which edges of the ledger's windows were measured by package, and that the committed file claims nothing else."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
from finetune_compat.checks.ledger import Issue, Way
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.checks.windows_measured import MeasuredEdge, Side, bases_of, edge_name, read_windows
from finetune_compat.contract.errors import RecordsError
from finetune_compat.contract.records import REPORTED
from packaging.specifiers import SpecifierSet
from packaging.version import Version

EDGES = read_windows()
LEDGER = load_ledger()


def way_of(one: MeasuredEdge) -> Way:
    """The way in which the issue shows that an edge is of."""
    return next(issue for issue in LEDGER.issues if issue.id == one.issue).ways[one.shows]


def sides_of(one: MeasuredEdge) -> tuple[Side, ...]:
    """The side inside, and the side outside if there is one."""
    return (one.inside,) if one.outside is None else (one.inside, one.outside)


@pytest.mark.parametrize("one", EDGES, ids=lambda one: f"{one.issue} {one.shows} {one.edge}")
class TestTheCommittedFile:
    def test_the_ledger_has_the_edge(self, one: MeasuredEdge) -> None:
        """A window that is moved needs a new measurement."""
        window = SpecifierSet(way_of(one).windows.get(one.package, ""))
        outside = one.outside.version if one.outside else None
        assert window.contains(one.inside.version) and not (outside and window.contains(outside))
        assert one.edge == edge_name(one.package, one.inside.version, outside)

    def test_the_edge_names_a_version_between_both_releases(self, one: MeasuredEdge) -> None:
        """The window ends there, and not at another of its edges."""
        if one.outside is None:
            return  # the window ends nowhere
        low, high = sorted((Version(one.inside.version), Version(one.outside.version)))
        named = [Version(part.version) for part in SpecifierSet(way_of(one).windows[one.package])]
        assert any(low <= version <= high for version in named)

    def test_the_other_windows_take_in_the_release_inside(self, one: MeasuredEdge) -> None:
        for package, window in way_of(one).windows.items():
            assert SpecifierSet(window).contains(one.inside.versions[package])

    def test_by_package_means_that_nothing_else_moved(self, one: MeasuredEdge) -> None:
        sides = sides_of(one)
        assert [side.versions[one.package] for side in sides] == [side.version for side in sides]
        others = [{name: v for name, v in side.versions.items() if name != one.package} for side in sides]
        assert not one.by_package or others[0] == others[-1]

    def test_it_holds_where_it_is_claimed(self, one: MeasuredEdge) -> None:
        """A window of the ledger that its own measurement contradicts must be corrected."""
        assert one.holds is not False
        assert one.holds is None or one.inside.shows.startswith(one.issue) or f", {one.issue}" in one.inside.shows


SCRIPTED = [
    pytest.param(issue, len(issue.shows) + place, id=f"{issue.id} {scripted.script}")
    for issue in LEDGER.issues
    for place, scripted in enumerate(issue.scripts)
]
EXAM = Path(__file__).parents[2] / "exam" / "issues"


@pytest.mark.parametrize(("issue", "place"), SCRIPTED)
class TestScripts:
    """A window of a script is a claim about releases. Each of its ends was measured."""

    def edges(self, issue: Issue, place: int) -> list[MeasuredEdge]:
        return [one for one in EDGES if (one.issue, one.shows) == (issue.id, place)]

    def test_every_end_of_its_windows_was_measured_by_package(self, issue: Issue, place: int) -> None:
        """An open end by the newest release. What the package itself needs may move with it (huggingface-hub with
        Transformers 5), and no package that windows can name.
        """
        edges = self.edges(issue, place)
        for package, text in (issue.ways[place].windows or {issue.library: ""}).items():
            signs = {part.operator for part in SpecifierSet(text) if part.version != "0"}  # no release is below 0
            ends = {one.edge.removeprefix(package).rstrip("0123456789.") for one in edges if one.package == package}
            assert signs <= {">=", "<"}
            assert ends == (signs if "<" in signs else signs | {"=="})
        assert all(one.holds for one in edges)
        assert not {text.partition(" ")[0] for one in edges for text in one.moved} & {*REPORTED}

    def test_the_script_is_the_one_that_was_measured(self, issue: Issue, place: int) -> None:
        """A script that is edited needs a new measurement."""
        path = EXAM / f"{issue.scripts[place - len(issue.shows)].script}.py"
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert {one.script_sha256 for one in self.edges(issue, place)} == {digest}

    def test_it_ends_with_the_listed_error(self, issue: Issue, place: int) -> None:
        error = issue.scripts[place - len(issue.shows)].error
        for one in self.edges(issue, place):
            assert one.inside.shows.startswith(f"{issue.id}: {error}")
            assert one.outside is None or one.outside.shows == "it ends with status 0"


def test_every_script_is_of_an_issue() -> None:
    """And imports nothing of this package: it is what a user writes."""
    scripts = {path.stem: path.read_text(encoding="utf-8") for path in EXAM.glob("*.py")}
    assert scripts.keys() == {scripted.script for issue in LEDGER.issues for scripted in issue.scripts}
    assert not [name for name, text in scripts.items() if "finetune_compat" in text]


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
        ({"outside": None}, True, "shown by the newest release"),
    ],
)
def test_the_answer(changes: dict[str, object], by_package: bool, answer: str) -> None:
    one = dataclasses.replace(EDGE, **changes)  # type: ignore[arg-type]
    assert (one.by_package, one.answer) == (by_package, answer)


def test_an_edge_is_named_by_the_releases_beside_it() -> None:
    assert edge_name("trl", "0.20.0", "0.19.1") == "trl>=0.20.0"
    assert edge_name("trl", "0.23.0", "0.23.1") == "trl<0.23.1"
    assert edge_name("trl", "1.16.0", None) == "trl==1.16.0"


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "windows.json"
    assert read_windows(path) == ()
    path.write_text(json.dumps([dataclasses.asdict(EDGE)]))
    assert read_windows(path) == (EDGE,)
    path.write_text(json.dumps([dataclasses.asdict(dataclasses.replace(EDGE, outside=None))]))
    assert read_windows(path) == (dataclasses.replace(EDGE, outside=None),)


@pytest.mark.parametrize("text", ["", "{}", "[{}]", '[{"inside": 1}]'])
def test_another_file_is_one_message(tmp_path: Path, text: str) -> None:
    path = tmp_path / "windows.json"
    path.write_text(text if text != "{}" else '{"a": 1}')
    with pytest.raises(RecordsError, match="not a list of measured edges"):
        read_windows(path)


class TestBases:
    """The first two signatures of `trl#3926`, which have the same window."""

    WHOLE = next(issue for issue in LEDGER.issues if issue.id == EDGE.issue)
    ISSUE = dataclasses.replace(WHOLE, shows=WHOLE.shows[:2])
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

    @pytest.mark.parametrize(
        "one", [one for one in EDGES if one.by_package and one.outside], ids=lambda one: f"{one.key}"
    )
    def test_the_ledger_names_each_measured_edge_in_the_same_way(self, one: MeasuredEdge) -> None:
        """Another name would hide it."""
        issue = next(issue for issue in LEDGER.issues if issue.id == one.issue)
        found = bases_of(issue, (way_of(one),), EDGES)
        assert found[one.package][one.edge.removeprefix(one.package)] == "by package"
