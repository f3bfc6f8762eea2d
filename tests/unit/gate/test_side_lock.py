"""A side gets one lock, which is read again as long as it answers the side."""

from __future__ import annotations

from pathlib import Path

import pytest
from finetune_compat.contract.errors import RegistryUnreachable
from finetune_compat.contract.records import DeviceKind
from finetune_compat.gate.inputs import read_side
from finetune_compat.gate.resolve import resolve
from finetune_compat.stacks import locks
from finetune_compat.stacks.uv_tool import Answer
from resolve_builders import MATRIX, Uv, resolved, resolved_alone, versions


def test_libraries_of_a_build_of_torch_are_left_out_on_a_cpu(uv: Uv, tmp_path: Path) -> None:
    """The index has torchvision for CUDA only: `import torchvision` fails, and with it that of Transformers."""
    uv.brings, text = {"timm": "torchvision==0.28.0"}, "trl==0.22.2\ntimm==1.0\n"
    (found,) = resolved(text, tmp_path)
    assert "torchvision" not in versions(found) and versions(found)["trl"] == "0.22.2"
    assert found.not_followed[-1] == (
        "torchvision==0.28.0: left out, a package needs it, and the index has it for CUDA builds of torch only; a "
        "package or script that imports it fails on both sides, such as qwen-vl-utils"
    )
    asked = len(uv.asked)
    (again,) = resolved(text, tmp_path)
    assert (again.lock, again.not_followed, len(uv.asked)) == (found.lock, found.not_followed, asked)


def test_a_gpu_has_them(uv: Uv, tmp_path: Path) -> None:
    """Its torch is the index's CUDA build."""
    uv.brings = {"timm": "torchvision==0.28.0"}
    (tmp_path / "requirements.txt").write_text("trl==0.22.2\ntimm==1.0\n")
    side = read_side([str(tmp_path / "requirements.txt")], "--from", MATRIX)
    found = resolve(side, "a", MATRIX, DeviceKind.CUDA, None, lambda _: None)
    assert versions(found)["torchvision"] == "0.28.0"


@pytest.mark.usefixtures("of_a_day")
def test_another_content_of_a_file_is_another_lock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """uv gets all of its packages."""
    file = tmp_path / "requirements.txt"
    file.write_text("trl==0.22.1\ntokenizers==0.22.0\n")
    one, calls = resolved_alone(str(file), monkeypatch)
    assert {"trl==0.22.1", "tokenizers==0.22.0"} <= set(calls[0])
    file.write_text("trl==0.22.1\ntokenizers==0.22.1\n")
    other, _ = resolved_alone(str(file), monkeypatch)
    assert one.stack != other.stack


@pytest.mark.usefixtures("of_a_day")
def test_constraints_limit_and_are_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An included file may narrow what the file names, and what others need."""
    (tmp_path / "more.txt").write_text("trl<0.23\nours>=1\n")
    file = tmp_path / "requirements.txt"
    file.write_text("-c more.txt\ntrl>=0.22\n")
    found, _ = resolved_alone(str(file), monkeypatch)
    rest = [name for name in MATRIX.packages if name != "trl"]
    assert list(found.plan.requirements) == ["trl>=0.22", *rest, *MATRIX.tools]
    assert found.plan.constraints == ("ours>=1", "trl<0.23")


@pytest.mark.usefixtures("of_a_day")
def test_an_unreachable_registry_is_an_infrastructure_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known about the versions."""
    monkeypatch.setattr(locks, "run_uv", lambda *_, **__: Answer(2, "", "error: Failed to fetch: `https://x`"))
    side = read_side(["trl==0.22.1"], "--to", MATRIX)
    with pytest.raises(RegistryUnreachable) as raised:
        resolve(side, "trl==0.22.1", MATRIX, DeviceKind.CPU, None, lambda _: None)
    assert str(raised.value) == (
        "trl0.22.1-py311: no lock could be made: Failed to fetch: `https://x`\n"
        "The package index did not answer, or uv itself failed.\n"
        "Check the connection and run the gate again, or name stacks of the matrix: they have locks."
    )
