"""The search for a safe release: what runs, in which order, and what is claimed about releases that did not run."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date

import builders as b
from finetune_compat.gate.decision import Moved, SafeTarget, Tried
from finetune_compat.gate.targets import Bench, Suspect, candidates, search, suspect
from finetune_compat.stacks.index import Release
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

TRL = ("0.19.0", "0.19.1", "0.20.0", "0.21.0", "0.22.0", "0.22.1", "0.22.2", "0.23.0", "0.23.1", "0.24.0", "1.0.0rc1")
BROKEN = {"0.20.0", "0.21.0", "0.22.0", "0.22.1", "0.22.2", "0.23.0"}
ASKED = Suspect("trl", Version("0.19.1"), Version("0.22.2"))


def there(*versions: str) -> list[Release]:
    """A package index."""
    return [Release(Version(version), date(2025, 1, 1)) for version in versions]


def found(
    broken: Collection[str], listed: Collection[str] = (), *, bound: int = 6, lost: Collection[str] = ()
) -> tuple[SafeTarget, list[str]]:
    """Return the result of a search, and the releases that ran."""
    ran: list[str] = []

    def passes(release: Release) -> Tried | None:
        version = str(release.version)
        ran.append(version)
        return None if version in lost else Tried(version, version not in broken, "")

    bench = Bench(passes, lambda release: str(release.version) in listed, bound)
    return search(ASKED, there(*TRL), bench), ran


class TestSearch:
    def test_the_first_above_that_passes(self) -> None:
        """With no listed issue, releases run one after another until one passes."""
        target, ran = found(BROKEN)
        assert (target.version, target.above, ran) == ("0.23.1", True, ["0.23.0", "0.23.1"])

    def test_what_is_listed_is_run_only_to_confirm_the_edge(self) -> None:
        """The one that passes runs, and its neighbour, which must fail."""
        target, ran = found(BROKEN, BROKEN)
        assert (target.version, ran, target.listed) == ("0.23.1", ["0.23.1", "0.23.0"], ())

    def test_a_window_that_is_too_wide_hides_nothing(self) -> None:
        """0.23.0 is listed, runs and passes: it is the nearer one."""
        assert found(BROKEN - {"0.23.0"}, BROKEN)[0].version == "0.23.0"

    def test_below_where_nothing_above_passes(self) -> None:
        """It is the newest between the two sides; the release in use and pre-releases never run."""
        target, ran = found(set(TRL) - {"0.22.0"}, bound=7)
        assert (target.version, target.above) == ("0.22.0", False)
        assert ran == ["0.23.0", "0.23.1", "0.24.0", "0.22.1", "0.22.0"]

    def test_many_releases_below_are_bisected(self) -> None:
        """Half of the runs are kept for them. With four and three runs, the middle ones run first."""
        target, ran = found({*BROKEN, "0.23.1", "0.24.0"} - {"0.20.0"})
        assert (target.version, target.above) == ("0.20.0", False)
        assert ran == ["0.23.0", "0.23.1", "0.24.0", "0.21.0", "0.20.0"]
        assert found({*BROKEN, "0.23.1", "0.24.0"} - {"0.20.0", "0.21.0"})[0].version == "0.21.0"

    def test_releases_above_leave_runs_for_those_below(self) -> None:
        """A removed argument fails on every newer release."""
        target, ran = found(set(TRL), bound=2)
        assert (target.version, target.untried, ran) == (None, 5, ["0.23.0", "0.21.0"])

    def test_an_infrastructure_failure_is_no_result(self) -> None:
        """The release is neither safe nor unsafe; the search continues."""
        target, _ = found(BROKEN, lost=("0.23.1",))
        assert target.version == "0.24.0"
        assert [item.version for item in target.tried] == ["0.23.0", "0.24.0"]

    @given(st.sets(st.sampled_from(TRL)), st.sets(st.sampled_from(TRL)), st.integers(0, 9))
    def test_what_it_names_was_run_and_passed(self, broken: set[str], listed: set[str], bound: int) -> None:
        """This holds for any ledger and any limit."""
        target, ran = found(broken, listed, bound=bound)
        assert len(ran) == len(set(ran)) <= bound
        if target.version is not None:
            assert target.version in ran and target.version not in broken
        assert not {"0.19.1", "0.22.2", "1.0.0rc1"} & set(ran)

    def test_a_step_back_looks_no_further_than_what_is_in_use(self) -> None:
        """From 0.23.1 to 0.22.0: 0.22.1, 0.22.2 and 0.23.0 lie between."""
        above, below = candidates(Suspect("trl", Version("0.23.1"), Version("0.22.0")), there(*TRL))
        assert [str(release.version) for release in above] == ["0.22.1", "0.22.2", "0.23.0"]
        assert below == ()


class TestSuspect:
    MOVED = (Moved("trl", "0.19.1", "0.22.2"), Moved("peft", "0.16.0", "0.17.1"), Moved("certifi", "1", "2"))

    def test_the_ledger_comes_first(self) -> None:
        """Its windows name the package, whatever was pinned."""
        found = suspect(self.MOVED, ["peft"], [b.LISTED.issues[0].id], [], b.LISTED)
        assert found == Suspect("trl", Version("0.19.1"), Version("0.22.2"))

    def test_else_the_one_pin_that_moved(self) -> None:
        """With several pins nothing is known."""
        assert suspect(self.MOVED, ["peft"], [], [], b.UNLISTED) == Suspect(
            "peft", Version("0.16.0"), Version("0.17.1")
        )
        assert suspect(self.MOVED, ["peft", "trl"], [], [], b.UNLISTED) is None

    def test_else_the_function_that_the_script_called_and_that_froze(self) -> None:
        """A pin may move PEFT, which freezes, with it."""
        assert suspect(self.MOVED, ["trl"], [], [], b.UNLISTED, ["peft/peft_model.py"]) == Suspect(
            "peft", Version("0.16.0"), Version("0.17.1")
        )
        assert suspect(self.MOVED, ["trl"], [], [], b.UNLISTED, ["transformers/trainer.py"]) == Suspect(
            "trl", Version("0.19.1"), Version("0.22.2")
        )

    def test_else_the_file_that_did_it(self) -> None:
        """It is the first that belongs to a package that moved and has releases that can run."""
        files = ["harness/cell/flow.py", "certifi/core.py", "trl/models/utils.py"]
        assert suspect(self.MOVED, [], [], files, b.UNLISTED) == Suspect("trl", Version("0.19.1"), Version("0.22.2"))
