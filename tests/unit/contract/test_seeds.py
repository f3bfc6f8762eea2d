"""The value of `--seeds`."""

from __future__ import annotations

import pytest
from finetune_compat.contract.errors import CompatError
from finetune_compat.contract.seeds import Seeds
from finetune_compat.run.options import parse_options


@pytest.mark.parametrize(
    ("given", "seeds"), [("200", Seeds(200)), ("200-399", Seeds(200, 200)), ("7-7", Seeds(1, 7)), ("1", Seeds(1))]
)
def test_seeds_are_a_number_or_a_range(given: str, seeds: Seeds) -> None:
    """A span includes its last seed."""
    assert parse_options(("--seeds", given)).seeds == seeds


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        *((text, "contains no seed") for text in ("0", "9-3")),
        *(
            (text, "is not a number of seeds or a range such as 200-399")
            for text in ("", "-3", "x", "5-", "1.5", "3-4-5")
        ),
    ],
)
def test_invalid_seeds_are_refused(given: str, problem: str) -> None:
    """No sweep starts."""
    with pytest.raises(CompatError) as raised:
        parse_options((f"--seeds={given}",))
    assert str(raised.value) == (
        f"arguments after --: argument --seeds: {given!r} {problem}\n"
        "Correct it. Other options are passed to pytest unchanged."
    )
