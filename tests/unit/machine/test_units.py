"""Parsing amounts of memory."""

from __future__ import annotations

import pytest
from finetune_compat.machine.units import bytes_of


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("1500000000", 1_500_000_000),
        ("12B", 12),
        ("60MiB", 60 * 2**20),
        ("1.5GB", 1_500_000_000),
        (" 1.5 gib ", 3 * 2**29),
        ("500m", 500_000_000),
        ("2Ki", 2048),
        ("1TB", 10**12),
    ],
)
def test_an_amount_has_a_unit_or_is_of_bytes(text: str, amount: int) -> None:
    """All options with an amount have the same form."""
    assert bytes_of(text) == amount


@pytest.mark.parametrize("text", ["", "0", "0MiB", "sixty", "-1GB", "1PB", "1I", "1.GB", "1 000", "3 GiB x"])
def test_an_invalid_amount_is_none(text: str) -> None:
    """No value is guessed."""
    assert bytes_of(text) is None
