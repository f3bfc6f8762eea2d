"""A move means one release: one of the index, or one that is built."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from finetune_compat.contract.errors import CompatError
from finetune_compat.contract.records import DeviceKind
from finetune_compat.gate import move_pins
from finetune_compat.gate.asked import Move, Upgrade
from finetune_compat.gate.decision import Rule
from finetune_compat.gate.resolve import resolve
from finetune_compat.stacks.built import Built
from resolve_builders import MATRIX, Uv, resolved, versions


@pytest.mark.parametrize(
    ("word", "version"),
    [("trl==latest", "1.16.0"), ("trl>=0.22,<1", "0.23.1"), ("trl>=1.17.0rc1", "1.17.0rc1"), ("latest", "1.16.0")],
)
def test_the_index_tells_the_newest(uv: Uv, tmp_path: Path, word: str, version: str) -> None:
    """A pre-release only if it is asked for."""
    _, after = resolved("trl==0.22.2\nwandb==0.21.3\n", tmp_path, word)
    assert versions(after)["trl"] == version
    assert versions(after)["wandb"] == "0.21.3"


def test_a_range_without_a_release(uv: Uv, tmp_path: Path) -> None:
    """The message has the newest."""
    with pytest.raises(CompatError, match=r"trl has no release >=9 with a wheel"):
        resolved("trl==0.22.2\n", tmp_path, "trl>=9")


def test_what_is_built_is_pinned_to_its_own_version(uv: Uv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No index has it, so no other wheel can take its place."""
    folder = tmp_path / "wheels" / "trl-1.17.0.dev0+habc"
    monkeypatch.setattr(move_pins, "build", lambda source, *, mark, fresh: Built("trl", "1.17.0.dev0+habc", folder))
    _, after = resolved("trl==0.22.2\nwandb==0.21.3\n", tmp_path, "trl @ git+https://x.org/trl@main")
    assert (versions(after)["trl"], after.plan.wheels) == ("1.17.0.dev0+habc", (folder,))
    alone = resolve(
        Upgrade((Move("trl", secret_address="git+https://x.org/trl@main"),), "3.11", in_project=False),
        "z",
        *(MATRIX, DeviceKind.CPU, None, lambda _: None),
    )
    assert (alone.rule, versions(alone)["trl"]) == (Rule.OF_ITS_DAY, "1.17.0.dev0+habc")
    assert alone.plan.as_of == datetime.now(UTC).date()


def test_a_build_of_another_package_is_refused(uv: Uv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address is wrong."""
    monkeypatch.setattr(move_pins, "build", lambda source, *, mark, fresh: Built("peft", "1+h", tmp_path))
    with pytest.raises(CompatError, match="it is peft, and not trl"):
        resolved("trl==0.22.2\n", tmp_path, "trl @ git+https://x.org/peft@main")
