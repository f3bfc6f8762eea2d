"""Options of a script have the defaults that their parser is given."""

from __future__ import annotations

import pytest
from audit_builders import value_of
from finetune_compat.audit.values import Value, const


@pytest.mark.parametrize(
    ("argument", "name", "value"),
    [
        ("'--lora', action='store_true'", "lora", False),
        ("'--full', action='store_false'", "full", True),
        ("'-r', '--lora-rank', type=int, default=8", "lora_rank", 8),
        ("'--rank', dest='r', default=8", "r", 8),
        ("'path', default='a'", "path", "a"),
    ],
)
def test_an_option_has_its_default(argument: str, name: str, value: object) -> None:
    """The command line may replace it."""
    found = value_of(
        f"import argparse\np = argparse.ArgumentParser()\np.add_argument({argument})\nx = p.parse_args().{name}\n"
    )
    assert found is not None
    assert (const(found), found.default) == (value, True)


def test_an_option_without_a_default_is_unknown() -> None:
    """It is None, or what the user gives."""
    found = value_of("import argparse\np = argparse.ArgumentParser()\np.add_argument('--m')\nx = p.parse_args().m\n")
    assert type(found) is Value
