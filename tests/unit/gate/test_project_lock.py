"""Everything of a project is installed but what cannot be installed here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from finetune_compat.contract.errors import CompatError, InstallError
from finetune_compat.gate import project_lock
from finetune_compat.gate.decision import Rule
from finetune_compat.stacks import index, locks
from finetune_compat.stacks.built import Built
from finetune_compat.stacks.locks import Unsolvable
from packaging.version import Version
from resolve_builders import Uv, resolved, versions


def test_all_packages_of_the_file_are_installed(uv: Uv, tmp_path: Path) -> None:
    """Also those that the matrix does not know."""
    (found,) = resolved("trl==0.22.2\nwandb==0.21.3\n", tmp_path)
    assert versions(found)["wandb"] == "0.21.3"
    assert found.rule is Rule.FILE


def test_what_the_index_does_not_have_is_left_out(uv: Uv, tmp_path: Path) -> None:
    """One after the other; the rest is installed, and the same gate asks the resolver nothing again."""

    def refuse(wanted: Sequence[str]) -> str | None:
        for name in ("acme==1", "other==2"):
            if name in wanted:
                return f"{name.partition('=')[0]} was not found in the package registry and you require {name}"
        return None

    uv.refuse = refuse
    (found,) = resolved("trl==0.22.2\nacme==1\nother==2\nwandb==0.21.3\n", tmp_path)
    assert {"acme", "other"}.isdisjoint(versions(found)) and "wandb" in versions(found)
    assert [note.partition(";")[0] for note in found.not_followed if "left out" in note] == [
        "acme==1: left out, the index has no such package",
        "other==2: left out, the index has no such package",
    ]
    asked = len(uv.asked)
    (again,) = resolved("trl==0.22.2\nacme==1\nother==2\nwandb==0.21.3\n", tmp_path)
    assert (again, len(uv.asked)) == (found, asked)


def test_a_conflict_is_the_answer(uv: Uv, tmp_path: Path) -> None:
    """Nothing is left out to avoid it."""
    uv.refuse = lambda _: "unsloth==2025.8 depends on trl<0.20 and you require trl==0.22.2"
    (found,) = resolved("trl==0.22.2\nunsloth==2025.8\n", tmp_path)
    assert isinstance(found.lock, Unsolvable) and len(uv.asked) == 1


@pytest.mark.parametrize("builds", [True, False])
def test_what_has_no_wheel_is_built_or_left_out(
    uv: Uv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, builds: bool
) -> None:
    """The build of a package with CUDA kernels fails here."""
    wheels = tmp_path / "wheels" / "rouge-score-0.1.2"

    def build(source: str, *, mark: bool, fresh: bool) -> Built:
        assert (source, mark) == ("rouge-score==0.1.2", False)
        if not builds:
            raise InstallError("it does not build here")
        return Built("rouge-score", "0.1.2", wheels)

    monkeypatch.setattr(project_lock, "build", build)
    old = {"rouge-score": Version("0.1.2")}
    monkeypatch.setattr(index, "newest_without_wheel", lambda package, allowed: old.get(package))
    (found,) = resolved("trl==0.22.2\nrouge-score\n", tmp_path)
    if builds:
        assert (versions(found)["rouge-score"], found.plan.wheels) == ("0.1.2", (wheels,))
        assert locks.facts_of(found.plan)[locks.WHEELS] == str(wheels)
    else:
        assert "rouge-score" not in versions(found)
        assert any("left out, it has no wheel, and it does not build here" in note for note in found.not_followed)


def test_a_release_of_the_stack_that_does_not_exist_is_bad_input(
    uv: Uv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another release in its place would be another question."""
    uv.refuse = lambda _: "there is no version of trl==0.24.0.dev0 and you require trl==0.24.0.dev0"
    with pytest.raises(CompatError, match=r"trl has no release 0\.24\.0\.dev0 with a wheel"):
        resolved("trl==0.24.0.dev0\n", tmp_path)
