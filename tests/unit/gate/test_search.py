"""The search for a safe release: what runs, in which order, and what is claimed about releases that did not run."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import builders as b
import pytest
from finetune_compat.checks.comparison import Change
from finetune_compat.checks.judge import judge
from finetune_compat.contract.catalog import flow_named
from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.contract.records import DeviceKind
from finetune_compat.gate import search as search_module
from finetune_compat.gate.decision import Decision, Rule, SafeTarget, Tried
from finetune_compat.gate.search import foreseen, search
from finetune_compat.gate.sides import GateSelection
from finetune_compat.gate.targets import Suspect
from finetune_compat.stacks.index import Release
from finetune_compat.stacks.locks import Unsolvable
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

TRL = ("0.19.0", "0.19.1", "0.20.0", "0.21.0", "0.22.0", "0.22.1", "0.22.2", "0.23.0", "0.23.1", "0.24.0", "1.0.0rc1")
BROKEN = {"0.20.0", "0.21.0", "0.22.0", "0.22.1", "0.22.2", "0.23.0"}
ASKED = Suspect("trl", Version("0.19.1"), Version("0.22.2"))
CELL = "sft-peft-model[qwen2-nf4-gc]@cpu"
ABOVE, BETWEEN = ("0.23.0", "0.23.1", "0.24.0"), ("0.20.0", "0.21.0", "0.22.0", "0.22.1")


def found(
    broken: Collection[str],
    *,
    bound: int = 6,
    lost: Collection[str] = (),
    of: Suspect = ASKED,
    there: tuple[str, ...] = TRL,
    expected: Mapping[str, bool] = MappingProxyType({}),
) -> tuple[SafeTarget, list[str]]:
    """Return the result of a search, and the releases that ran."""
    ran: list[str] = []

    def passes(release: Release) -> Tried | None:
        version = str(release.version)
        ran.append(version)
        return None if version in lost else Tried(version, version not in broken, "")

    releases = [Release(Version(version), date(2025, 1, 1)) for version in there]
    return search(of, releases, passes, bound, {Version(one): passes for one, passes in expected.items()}), ran


class TestSearch:
    def test_the_first_above_and_nothing_between(self) -> None:
        target, ran = found(BROKEN)
        assert (target.version, target.above, target.between) == ("0.23.1", True, None)
        assert ran == ["0.23.0", "0.23.1", "0.21.0", "0.20.0"]

    def test_the_newest_between_as_well(self) -> None:
        target, ran = found(BROKEN - {"0.20.0", "0.21.0"})
        assert (target.version, target.above, target.between) == ("0.23.1", True, "0.21.0")
        assert ran == ["0.23.0", "0.23.1", "0.21.0", "0.22.0"]

    def test_what_the_baselines_expect_is_confirmed_first(self) -> None:
        """Two runs for each answer at most: the change that was expected, from both sides."""
        target, ran = found(BROKEN, expected={one: one not in BROKEN for one in TRL})
        assert (target.version, target.between, ran) == ("0.23.1", None, ["0.23.1", "0.23.0", "0.20.0"])
        there = tuple(f"1.{minor}.0" for minor in range(100))
        broken = {f"1.{minor}.0" for minor in range(1, 41)}
        of = Suspect("trl", Version("1.0.0"), Version("1.1.0"))
        target, ran = found(broken, of=of, there=there, expected={one: one not in broken for one in there})
        assert (target.version, ran) == ("1.41.0", ["1.41.0", "1.40.0"])

    @given(
        st.integers(0, 3),
        st.integers(0, 4),
        st.dictionaries(st.sampled_from(TRL), st.booleans()),
    )
    def test_what_is_expected_changes_no_answer(self, above: int, between: int, expected: dict[str, bool]) -> None:
        """It may be wrong, or of another machine."""
        target, ran = found({*ABOVE[:above], *BETWEEN[between:]}, bound=20, expected=expected)
        assert (target.version if target.above else None) == (ABOVE[above] if above < len(ABOVE) else None)
        assert target.between == (BETWEEN[between - 1] if between else None)
        assert len(ran) == len(set(ran))

    def test_what_is_foreseen_is_what_runs_where_all_is_as_expected(self) -> None:
        """Without an expectation nothing is."""
        expected = {Version(one): one not in BROKEN for one in TRL}
        there = [Release(Version(one), date(2025, 1, 1)) for one in TRL]
        ran = [str(one.version) for one in foreseen(ASKED, there, 6, expected)]
        assert ran == found(BROKEN, expected={one: one not in BROKEN for one in TRL})[1]
        assert foreseen(ASKED, there, 6, {}) == ()

    def test_between_where_nothing_above_passes(self) -> None:
        target, _ = found({*TRL} - {"0.20.0", "0.21.0", "0.22.0"}, bound=8)
        assert (target.version, target.above, target.between) == ("0.22.0", False, "0.22.0")

    def test_a_passing_release_after_a_long_way_is_bisected(self) -> None:
        """The first that passes is the 40th above: 1, 2, 4, ... 64, and then between 32 and 64."""
        there = tuple(f"1.{minor}.0" for minor in range(100))
        broken = {f"1.{minor}.0" for minor in range(1, 41)}
        target, ran = found(broken, bound=20, of=Suspect("trl", Version("1.0.0"), Version("1.1.0")), there=there)
        assert target.version == "1.41.0"
        assert len(ran) <= 2 * math.ceil(math.log2(64)) + 2

    def test_releases_above_leave_runs_for_those_between(self) -> None:
        target, ran = found(set(TRL), bound=2)
        assert (target.version, target.untried, ran) == (None, 5, ["0.23.0", "0.21.0"])

    def test_an_infrastructure_failure_is_no_result(self) -> None:
        """The release is neither safe nor unsafe; the search continues."""
        target, _ = found(BROKEN, lost=("0.23.1",))
        assert target.version == "0.24.0"
        assert "0.23.1" not in [item.version for item in target.tried]

    @given(
        st.sets(st.sampled_from(TRL)),
        st.sets(st.sampled_from(TRL)),
        st.integers(0, 9),
        st.dictionaries(st.sampled_from(TRL), st.booleans()),
    )
    def test_what_it_names_was_run_and_passed(
        self, broken: set[str], lost: set[str], bound: int, expected: dict[str, bool]
    ) -> None:
        target, ran = found(broken, lost=lost, bound=bound, expected=expected)
        assert len(ran) == len(set(ran)) <= bound
        for version in filter(None, (target.version, target.between)):
            assert version in ran and version not in broken | lost
        assert target.between is None or target.between in BETWEEN
        assert not target.above or target.version in ABOVE
        assert not {"0.19.1", "0.22.2", "1.0.0rc1"} & set(ran)

    @given(st.integers(0, 3), st.integers(0, 4))
    def test_with_one_change_each_the_answers_are_the_nearest(self, above: int, between: int) -> None:
        """The first releases above are broken, and the last ones between."""
        target, _ = found({*ABOVE[:above], *BETWEEN[between:]}, bound=20)
        assert (target.version if target.above else None) == (ABOVE[above] if above < len(ABOVE) else None)
        assert target.between == (BETWEEN[between - 1] if between else None)


def test_cells_of_all_causes_run_in_one_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search for the next cause finds them in the store. Each cause is judged by its own cell."""
    ran: list[tuple[str, ...]] = []
    seen = b.healthy("sft-peft-model")
    verdicts = tuple(
        replace(judge(one, flow_named(seen.flow), ()), cell=f"trl0.23-py311/{name}")
        for one, name in ((seen, CELL), (b.frozen(seen), CELL.replace("nf4", "int8")))
    )

    class Runs:
        def cells(self, _: object, selection: GateSelection) -> None:
            ran.append(selection.cells)

        def progress(self, _: str) -> None: ...

        def results(self) -> Any:
            return SimpleNamespace(verdicts=verdicts)

    release = SimpleNamespace(stack="trl0.23-py311", lock=None, rule=Rule.ROW)
    monkeypatch.setattr(search_module, "of_release", lambda *_: release)
    of = search_module.Search(Any, Runs(), release, release, DeviceKind.CPU, 6)  # type: ignore[arg-type]
    one, other = (parse_cell(verdict.cell).test for verdict in verdicts)
    both = GateSelection(cells=(one, other))
    for own, passes in ((one, True), (other, False)):
        found = of._try(ASKED, Release(Version("0.23.1"), date(2025, 9, 1)), GateSelection(cells=(own,)), both)
        assert found is not None and found.passes is passes
    assert ran == [(one, other)] * 2


class TestSuspects:
    """Where nothing names one of several packages that moved, they are moved one at a time."""

    MOVED = ("trl", "transformers", "peft")

    def suspected(
        self, monkeypatch: pytest.MonkeyPatch, guilty: str, refused: str = ""
    ) -> tuple[Suspect | None, list[str]]:
        """The suspect of a cell without a line, and the packages that were moved."""
        asked: list[str] = []
        tools = b.healthy("sft-peft-model"), b.frozen(b.healthy("sft-peft-model"))
        versions = (dict.fromkeys(self.MOVED, "1.0"), dict.fromkeys(self.MOVED, "2.0"))

        class Mixed:
            def __init__(self, *_: object) -> None: ...

            def moved(self, names: tuple[str]) -> Any:
                asked.extend(names)
                lock = Unsolvable(Path("x"), "cause: no", {}) if names == (refused,) else None
                return SimpleNamespace(stack="mixed", lock=lock)

        class Runs:
            def cells(self, *_: object) -> None: ...

            def progress(self, _: str) -> None: ...

            def results(self) -> Any:
                seen = tools[asked[-1] in (guilty, refused)]
                verdict = judge(seen, flow_named(seen.flow), ())
                return SimpleNamespace(verdicts=(replace(verdict, cell=f"mixed/{CELL}"),))

        monkeypatch.setattr(search_module, "Two", Mixed)
        side = SimpleNamespace(pins=())
        given = SimpleNamespace(
            before=SimpleNamespace(versions=versions[0]), after=SimpleNamespace(versions=versions[1]), ledger=b.UNLISTED
        )
        of = search_module.Search(Any, Runs(), side, side, DeviceKind.CPU, 6)  # type: ignore[arg-type]
        return of._suspect(given, [SimpleNamespace(name=CELL, after=None)]), asked  # type: ignore[list-item,arg-type]

    def test_the_first_that_fails_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found, asked = self.suspected(monkeypatch, "transformers")
        assert found == Suspect("transformers", Version("1.0"), Version("2.0"))
        assert asked == ["trl", "transformers"]

    def test_none_where_none_fails_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found, asked = self.suspected(monkeypatch, "")
        assert found is None and {*asked} == {*self.MOVED}

    def test_versions_that_do_not_go_together_accuse_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found, _ = self.suspected(monkeypatch, "peft", refused="trl")
        assert found is not None and found.package == "peft"


class TestFurtherCauses:
    """Releases are started for the most urgent cause. For others the baselines answer where they show them too."""

    BOTH = "sft-peft-model-and-config[qwen2-full-nogc]@cpu"
    TWIN = CELL.replace("nf4", "int8")
    """A cell of the more urgent cause, which is that of `CELL`."""
    RELEASES = (*TRL[:-1], "0.25.0", "0.25.1", "0.26.0")
    HELD = ("0.19.1", "0.20.0", "0.22.2", "0.23.0", "0.23.1", "0.24.0", "0.25.1", "0.26.0")
    """Releases of the baselines. They have no 0.25.0."""
    LATE = ("0.20.0", "0.21.0", "0.22.0", "0.22.1", "0.22.2", "0.23.0", "0.23.1", "0.24.0", "0.25.0")
    """Releases that the second cause is in."""
    at_once: list[list[str]]
    """Releases that were started in parallel, by search."""

    def searched(
        self,
        monkeypatch: pytest.MonkeyPatch,
        *,
        here: Collection[str] = LATE,
        held: Collection[str] = HELD,
        rule: Rule = Rule.OF_ITS_DAY,
    ) -> tuple[dict[str, SafeTarget], dict[str, tuple[str, ...]]]:
        """Return the targets by cell, and the releases that were started with the cells of their first start.

        Args:
            here: releases that the second cause is in, on this machine. In the baselines it is in `LATE`.
            held: releases of the baselines.
            rule: of the requested side.
        """
        ran: dict[str, tuple[str, ...]] = {}
        at_once = self.at_once = []
        seen = b.healthy("sft-peft-model")
        healthy, frozen = (judge(one, flow_named(seen.flow), ()) for one in (seen, b.frozen(seen)))

        def released(_: object, __: str, version: Version, *___: object) -> Any:
            return SimpleNamespace(stack=f"trl{version}-py311", version=str(version), lock=None, rule=rule)

        class Runs:
            verdicts: tuple[Any, ...] = ()

            def cells(self, of: Any, selection: GateSelection) -> None:
                ran.setdefault(of.version, selection.cells)
                first = of.version in BROKEN
                broken = {CELL: first, TestFurtherCauses.TWIN: first, TestFurtherCauses.BOTH: of.version in here}
                self.verdicts += tuple(
                    replace(frozen if ill else healthy, cell=f"{of.stack}/{name}") for name, ill in broken.items()
                )

            def ahead(self, asked: Sequence[tuple[Any, GateSelection]]) -> None:
                at_once.append([of.version for of, _ in asked])
                for of, selection in asked:
                    self.cells(of, selection)

            def progress(self, _: str) -> None: ...

            def results(self) -> Any:
                return self

        def expected(_: object, __: str, names: list[str]) -> dict[Version, bool]:
            broken = BROKEN if CELL in names else self.LATE
            return {Version(one): one not in broken for one in held}

        monkeypatch.setattr(search_module, "of_release", released)
        monkeypatch.setattr(search_module, "on_releases", expected)
        there = [Release(Version(one), date(2025, 1, 1)) for one in self.RELEASES]
        monkeypatch.setattr(search_module.index, "releases", lambda _: there)
        monkeypatch.setattr(search_module.Search, "_named", lambda *_: ASKED)
        known = SimpleNamespace(cells=[SimpleNamespace(name=name) for name in (CELL, self.TWIN, self.BOTH)])
        side = SimpleNamespace(rule=rule, pins=())
        of = search_module.Search(Any, Runs(), side, side, DeviceKind.CPU, 12, known)  # type: ignore[arg-type]
        cells = [
            self.regressed(self.BOTH, Decision.HOLD, ("A204",)),
            self.regressed(CELL, Decision.BLOCK, ("C104",)),
            self.regressed(self.TWIN, Decision.BLOCK, ("C104",)),
        ]
        return of.of(Any, cells), ran  # type: ignore[arg-type]

    @staticmethod
    def regressed(name: str, effect: Decision, failing: tuple[str, ...]) -> Any:
        """A cell that fails checks on the requested side."""
        after = SimpleNamespace(verdict=SimpleNamespace(issues=(), failing=failing))
        return SimpleNamespace(name=name, change=Change.REGRESSED, effect=effect, exception=None, after=after)

    def test_nothing_is_started_for_what_the_baselines_show(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The more urgent cause is the second of the catalog. 0.25.1 is the first measured release of the other."""
        targets, ran = self.searched(monkeypatch)
        assert [*ran] == ["0.23.1", "0.23.0", "0.20.0"]
        assert (targets[CELL].version, targets[CELL].foretold) == ("0.23.1", False)
        found = targets[self.BOTH]
        assert (found.version, found.above, found.between, found.foretold) == ("0.25.1", True, None, True)
        assert "0.25.0" not in {one.version for one in found.tried}
        assert self.at_once == [[*ran]]

    def test_a_release_that_is_expected_to_pass_runs_every_cell_in_one_start(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """All cells of the cause must pass on the release that is named. Others run the first cell of each cause."""
        _, ran = self.searched(monkeypatch)
        one, twin, both = (parse_cell(f"/{name}").test for name in (CELL, self.TWIN, self.BOTH))
        assert {*ran["0.23.1"]} == {one, twin, both}
        assert {*ran["0.23.0"]} == {*ran["0.20.0"]} == {one, both}

    def test_what_was_started_counts_more_than_the_baselines(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Here the second cause is gone in 0.23.1 already, and the baselines say that it is not."""
        targets, ran = self.searched(monkeypatch, here=BROKEN)
        assert [*ran] == ["0.23.1", "0.23.0", "0.20.0"]
        assert targets[self.BOTH].version == "0.23.1"

    @pytest.mark.parametrize(
        ("held", "rule"),
        [
            pytest.param(("0.20.0", "0.22.2", "0.23.1", "0.26.0"), Rule.OF_ITS_DAY, id="without-the-release-in-use"),
            pytest.param(HELD, Rule.FILE, id="with-other-packages"),
            pytest.param((), Rule.OF_ITS_DAY, id="of-no-baseline"),
        ],
    )
    def test_other_changes_are_run(self, monkeypatch: pytest.MonkeyPatch, held: Collection[str], rule: Rule) -> None:
        """The baselines do not show the change between these two releases, among packages of one day."""
        targets, ran = self.searched(monkeypatch, held=held, rule=rule)
        assert targets[self.BOTH].version == "0.25.1" and targets[self.BOTH].version in ran
        assert not targets[self.BOTH].foretold
