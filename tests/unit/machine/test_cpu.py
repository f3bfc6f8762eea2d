"""CPU features that change what a library does."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from finetune_compat.contract.records import DeviceKind
from finetune_compat.machine import cpu

FIRST = "processor\t: 0\nmodel name\t: AMD EPYC 9124\nflags\t\t: fpu avx512f avx512_bf16\n"
SECOND = "processor\t: 1\nmodel name\t: Another\nflags\t\t: fpu\n"


@pytest.fixture
def has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """A machine whose /proc/cpuinfo has this text; without a call, it has no such file."""
    info = tmp_path / "cpuinfo"
    monkeypatch.setattr(cpu, "Path", lambda _: info)
    cpu._field.cache_clear()
    yield lambda text: info.write_text(text, encoding="utf-8") and None
    cpu._field.cache_clear()


def test_the_first_processor_gives_the_name(has: Callable[[str], None]) -> None:
    """A machine has one model."""
    has(FIRST + SECOND)
    assert cpu.name() == "AMD EPYC 9124"


def test_without_a_model_the_architecture_is_the_name(has: Callable[[str], None]) -> None:
    """The kernel of an ARM machine names no model."""
    has("processor\t: 0\nFeatures\t: fp asimd\n")
    assert cpu.name() == platform.machine()


def test_a_machine_without_cpuinfo_has_no_features(has: Callable[[str], None]) -> None:
    """macOS has no such file."""
    assert cpu.name() == platform.machine()
    assert cpu.features(DeviceKind.CPU, triton=True) == ()


@pytest.mark.parametrize(
    ("text", "kind", "triton", "features"),
    [
        (FIRST, DeviceKind.CPU, True, ("avx512_bf16",)),
        (FIRST, DeviceKind.CPU, False, ("avx512_bf16", "without_triton")),
        # A flag is a whole word.
        (FIRST.replace("avx512_bf16", "avx512_bf16x"), DeviceKind.CPU, True, ()),
        # bitsandbytes repacks weights only where the CPU multiplies them.
        (FIRST, DeviceKind.CUDA, True, ()),
        (FIRST, DeviceKind.CUDA, False, ("without_triton",)),
    ],
)
def test_features_are_those_of_the_device_that_computes(
    has: Callable[[str], None], text: str, kind: DeviceKind, triton: bool, features: tuple[str, ...]
) -> None:
    """Those of the host CPU do not matter to cells on a GPU."""
    has(text)
    assert cpu.features(kind, triton=triton) == features
