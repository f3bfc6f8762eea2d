"""Which issues a project has, how surely, and what is nearest without them. Against the committed ledger."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from affected_builders import LOCKED, locked, project
from finetune_compat.affected.hits import Answer, Certainty, Hit, answer
from finetune_compat.affected.packages import Project
from finetune_compat.checks.harm import Harm
from finetune_compat.checks.ledger import Ledger, Scripted
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.contract.records import DeviceKind
from finetune_compat.contract.verdict import Kind
from packaging.specifiers import SpecifierSet

LEDGER = load_ledger()


def asked(of: Project) -> Answer:
    return answer(of, LEDGER)


def hit(of: Project, name: str) -> Hit | None:
    return next((one for one in asked(of).hits if one.issue.id == name), None)


class TestFlagship:
    @pytest.mark.parametrize("version", ["0.20.0", "0.21.0", "0.22.2", "0.23.0"])
    def test_the_window_is_hit(self, version: str) -> None:
        """With what its user must know."""
        found = hit(locked(trl=f"=={version}"), "trl#3926")
        assert found is not None
        assert found.certainty is Certainty.HIT and found.counts
        assert found.harm is Harm.LEARNS_NOTHING
        assert [str(safe) for safe in found.safe] == ["trl==0.23.1"]

    @pytest.mark.parametrize("version", ["0.19.1", "0.23.1", "1.16.0"])
    def test_releases_outside_are_not(self, version: str) -> None:
        """The edges were measured."""
        assert hit(locked(trl=f"=={version}"), "trl#3926") is None

    def test_a_range_is_answered_for_what_it_allows(self) -> None:
        """What is installed decides."""
        found = hit(project(trl=">=0.19", complete=False), "trl#3926")
        assert found is not None and found.certainty is Certainty.ALLOWED
        assert [str(safe) for safe in found.safe] == ["trl==0.23.1"]

    def test_a_range_inside_the_window_is_hit(self) -> None:
        """Every version that it allows is affected."""
        found = hit(project(trl="==0.22.*", complete=False), "trl#3926")
        assert found is not None and found.certainty is Certainty.HIT

    def test_a_lock_without_bitsandbytes_has_no_quantized_base(self) -> None:
        """A requirements file may get it from elsewhere."""
        versions = {name: text for name, text in LOCKED.items() if name != "bitsandbytes"}
        assert hit(project(**versions), "trl#3926") is None
        assert hit(project(**versions, complete=False), "trl#3926") is not None

    def test_a_lock_without_peft_has_no_adapters(self) -> None:
        """Only flows that train the whole model remain, and none of them has a listed bug there."""
        found = asked(project(trl="==0.22.2", transformers="==4.56.0"))
        assert [one.issue.id for one in found.hits if one.counts] == []


def test_the_answers_agree_with_the_ledger_for_every_locked_stack() -> None:
    """A cell for which an issue is listed is in a stack that is told to have it, and the other way round."""
    from finetune_compat.contract.catalog import CATALOG
    from finetune_compat.stacks.locks import Unsolvable
    from finetune_compat.stacks.locks import locked as lock_of
    from finetune_compat.stacks.matrix import read_matrix

    matrix = read_matrix()
    plans = [plan for stack in matrix.stacks for plan in matrix.plans(stack) if not plan.name.endswith("-cuda")]
    compared = 0
    for plan in plans:
        lock = lock_of(plan)
        if isinstance(lock, Unsolvable):
            continue
        versions = dict(lock.requirements)
        listed = {
            deviation.issue
            for flow, device in itertools.product(CATALOG, DeviceKind)
            for variant in flow.variants
            for deviation in LEDGER.listed(flow.name, variant, device, versions)
        }
        names = {name: f"=={versions[name]}" for name in (*LOCKED, "accelerate") if name in versions}
        found = asked(project(**names)).hits
        assert {one.issue.id for one in found if one.signatures} == listed, plan.name
        inside = {
            issue.id
            for issue in LEDGER.issues
            if any(
                all(name in versions and versions[name] in SpecifierSet(text) for name, text in shown.windows.items())
                for shown in issue.scripts
            )
        }
        assert {one.issue.id for one in found if len(one.signatures) < len(one.shows)} == inside, plan.name
        compared += 1
    assert compared > 50


class TestScripts:
    """An issue that a script shows is told by versions, as others are."""

    SHOWN = Scripted(windows={"peft": "<0.18.0"}, script="x", error="AssertionError", harm=Harm.LEARNS_NOTHING)
    ISSUE = dataclasses.replace(LEDGER.issues[0], shows=(), scripts=(SHOWN,), imports=("peft.LoraConfig",))

    def hits(self, of: Project, *shown: Scripted) -> tuple[Hit, ...]:
        issue = dataclasses.replace(self.ISSUE, scripts=shown or (self.SHOWN,))
        return answer(of, Ledger(issues=(issue,), measured=LEDGER.measured)).hits

    def test_its_window_is_hit(self) -> None:
        (found,) = self.hits(locked(peft="==0.17.1"))
        assert (found.certainty, found.harm, found.signatures) == (Certainty.HIT, Harm.LEARNS_NOTHING, ())
        assert [str(safe) for safe in found.safe] == ["peft==0.18.0"]
        assert self.hits(locked(peft="==0.18.0")) == ()

    def test_without_windows_the_project_must_have_the_library(self) -> None:
        always = dataclasses.replace(self.SHOWN, windows={})
        assert len(self.hits(locked(), always)) == 1
        assert self.hits(project(trl="==0.22.2", transformers="==4.56.0"), always) == ()


def test_the_most_serious_bug_comes_first_and_traps_come_last() -> None:
    """A reader stops early."""
    found = asked(locked()).hits
    assert found[0].issue.id == "trl#3926"
    assert [one.counts for one in found] == sorted((one.counts for one in found), reverse=True)
    assert {one.issue.kind for one in found if not one.counts} <= {Kind.TRAP, Kind.PLATFORM}


def test_a_safe_release_brings_no_other_bug() -> None:
    """TRL 0.20 to 0.26 have bugs that 0.19.1 has not."""
    found = hit(locked(trl="==0.19.1"), "transformers#42489")
    assert found is not None
    for safe in found.safe:
        there = asked(locked(trl="==0.19.1", **{safe.package: f"=={safe.version}"}))
        today = {one.issue.id for one in asked(locked(trl="==0.19.1")).hits if one.counts}
        assert {one.issue.id for one in there.hits if one.counts} < today, safe


def test_a_release_newer_than_the_measured_ones_is_named() -> None:
    """Nothing is claimed about it."""
    assert [one.name for one in asked(locked(trl="==99.0")).newer] == ["trl"]
    assert asked(locked(trl="==1.16.0")).newer == ()


def test_a_project_without_a_package_of_the_ledger_is_not_known() -> None:
    """Nothing was judged."""
    assert not asked(project(numpy="==2.0")).known
    assert asked(locked()).known
