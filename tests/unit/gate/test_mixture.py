"""Versions between two sides: what is pinned, what is only preferred, and what had to follow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from finetune_compat.contract.errors import CompatError
from finetune_compat.contract.records import DeviceKind
from finetune_compat.gate.decision import Rule
from finetune_compat.gate.mixture import Two
from finetune_compat.gate.resolved import Resolved
from finetune_compat.stacks import locks
from finetune_compat.stacks.locks import Unsolvable, locked
from finetune_compat.stacks.matrix import read_matrix
from finetune_compat.stacks.uv_tool import Answer

MATRIX = read_matrix()


def row(name: str, python: str = "3.11") -> Resolved:
    plan = MATRIX.plan(MATRIX.stack(name), python)
    return Resolved(name, Rule.ROW, plan, locked(plan), (), ())


TWO = Two(MATRIX, DeviceKind.CPU, row("trl0.23"), row("trl0.24"))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, in_places: Any) -> None:
    in_places(environments=tmp_path)


class TestMoved:
    def test_no_package_and_every_package_are_the_sides(self) -> None:
        assert TWO.moved(()) is TWO.before
        assert TWO.moved(TWO.changed) is TWO.after
        assert TWO.moved(("certifi-of-nobody",)) is TWO.before

    def test_packages_of_the_matrix_come_first(self) -> None:
        one, other = (lock.requirements for lock in TWO.locks)
        assert TWO.changed[:2] == ("trl", "transformers")
        assert {*TWO.changed} == {name for name in {*one, *other} if one.get(name) != other.get(name)}

    def test_the_matrix_is_pinned_and_everything_else_is_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """uv prefers the versions of the file that it is to write."""
        asked: list[str] = []
        kept: dict[str, str] = {}

        def run_uv(arguments: list[str], **how: Any) -> Answer:
            asked.extend(how["stdin"].split("\n"))
            file = Path(arguments[arguments.index("--output-file") + 1])
            kept.update(line.split("==") for line in file.read_text().split("\n"))
            lines = {**kept, "tokenizers": "0.99.0"}.items()
            file.write_text("".join(f"{name}=={version} \\\n    --hash=sha256:{'0' * 64}\n" for name, version in lines))
            return Answer(0, "", "")

        monkeypatch.setattr(locks, "run_uv", run_uv)
        found = TWO.moved(("transformers",))
        one, other = (lock.requirements for lock in TWO.locks)
        wanted = {**one, "transformers": other["transformers"], "torch": MATRIX.torch}
        assert asked == [f"{name}=={wanted[name]}" for name in (*MATRIX.packages, *MATRIX.tools, "torch")]
        assert kept == {**one, "transformers": other["transformers"]}
        assert TWO.followed(found, ("transformers",)) == (f"tokenizers {one['tokenizers']} -> 0.99.0",)
        assert TWO.moved(("transformers",)) == found, "the lock is read the second time"

    def test_other_packages_have_another_lock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(locks, "run_uv", lambda *_, **__: Answer(1, "", "No solution found when resolving: x"))
        stacks = {TWO.moved(names).stack for names in (("trl",), ("transformers",), ("trl", "transformers"))}
        assert len(stacks) == 3

    def test_versions_that_do_not_go_together(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(locks, "run_uv", lambda *_, **__: Answer(1, "", "No solution found when resolving: x"))
        found = TWO.moved(("transformers",))
        assert isinstance(found.lock, Unsolvable)
        assert TWO.followed(found, ("transformers",)) == ()

    def test_sides_for_two_pythons_are_refused(self) -> None:
        with pytest.raises(CompatError, match=r"one side is for Python 3\.12"):
            _ = Two(MATRIX, DeviceKind.CPU, row("trl0.23", "3.12"), row("trl0.24")).changed

    def test_a_side_without_a_solution_is_refused(self) -> None:
        lost = replace(TWO.before, lock=Unsolvable(Path("x"), "cause: nothing fits", {}))
        with pytest.raises(CompatError, match="no versions go together: nothing fits"):
            _ = replace(TWO, before=lost).changed
