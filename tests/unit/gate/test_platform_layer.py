"""Which packages a side cannot choose, and what the report says of them."""

from __future__ import annotations

import pytest
from finetune_compat.gate.platform_layer import is_of_platform, is_torch, platform_note
from side_builders import PLATFORM


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("torch", True),
        ("Torch", True),
        ("torchvision", True),
        ("nvidia-cublas-cu12", True),
        ("triton", True),
        ("pytorch-triton", True),
        ("torchmetrics", False),
        ("trl", False),
    ],
)
def test_torch_and_what_its_builds_bring(name: str, expected: bool) -> None:
    """Other packages whose names begin with torch are ordinary ones."""
    assert is_of_platform(name) is expected


@pytest.mark.parametrize(("word", "expected"), [("torch==2.8.0", True), ("torch>2", True), ("trl==0.22.2", False)])
def test_a_value_that_names_one(word: str, expected: bool) -> None:
    assert is_torch(word) is expected


def test_what_is_not_seen() -> None:
    """The version of torch is the matrix's. Libraries of a build are left out whole."""
    assert platform_note("torch==2.8.0") == f"torch==2.8.0: {PLATFORM}"
    note = platform_note("torchvision==0.23.0")
    assert "torchvision==0.23.0" in note and "it belongs to one version and build of torch" in note
