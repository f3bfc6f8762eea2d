"""In an upgrade, only what is asked for moves, and what must follow."""

from __future__ import annotations

from pathlib import Path

from finetune_compat.contract.records import DeviceKind
from finetune_compat.gate.inputs import read_side, read_upgrade
from finetune_compat.gate.resolve import resolve
from resolve_builders import MATRIX, Uv, resolved, versions


def test_only_what_must_follow_moves(uv: Uv, tmp_path: Path) -> None:
    """The resolver prefers every version of the other side but that of the package itself."""
    before, after = resolved("trl==0.22.2\npeft==0.17.1\nwandb==0.21.3\nrich>=13\n", tmp_path, "trl==0.23.1")
    moved = {name for name, version in versions(after).items() if versions(before)[name] != version}
    assert moved == {"trl"}
    assert {"peft==0.17.1", "wandb==0.21.3"} <= set(uv.preferred)
    assert not any(line.startswith("trl==") for line in uv.preferred)
    assert {"trl==0.23.1", "peft", "wandb", "rich>=13"} <= set(uv.asked[-1])
    assert [str(pin) for pin in after.pins] == ["trl==0.23.1"]


def test_a_range_is_given_up_only_if_nothing_goes_together(uv: Uv, tmp_path: Path) -> None:
    """The answer says so, because the file must change too."""
    uv.refuse = lambda wanted: "trl==1.16.0 depends on rich>=14" if {"trl==1.16.0", "rich<1"} <= {*wanted} else None
    _, after = resolved("trl==0.22.2\nrich<1\n", tmp_path, "trl==1.16.0")
    assert versions(after)["trl"] == "1.16.0"
    assert after.not_followed[-1] == "rich<1: your project's range does not allow the upgrade, which needs rich 1.0"


def test_other_packages_move_too(uv: Uv, tmp_path: Path) -> None:
    """An upgrade may be of any package that the project names."""
    file = tmp_path / "requirements.txt"
    file.write_text("trl==0.22.2\nwandb==0.21.3\n")
    side = read_side([str(file)], "--from", MATRIX)
    context = (MATRIX, DeviceKind.CPU, None, lambda _: None)
    before = resolve(side, "x", *context)
    after = resolve(read_upgrade(["wandb==0.22"], side, MATRIX), "y", *context, before)
    assert (versions(after)["trl"], versions(after)["wandb"]) == ("0.22.2", "0.22")
