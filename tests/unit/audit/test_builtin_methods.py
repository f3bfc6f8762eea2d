"""Methods of dictionaries, lists and texts give what Python gives."""

from __future__ import annotations

import pytest
from audit_builders import computed, followed, value_of
from finetune_compat.audit.values import Items

PROGRAMS = [
    "x = {}\nx['a'] = 1\nx.update(b=2)\nx.setdefault('c', 3)",
    "x = {'a': 1}.get('b', 5)",
    "x = []\nx.append(1)\nx.append(2)",
    "x = {'a': 1}.copy()",
    "x = {'a': 1}\ny = x.pop('a')\nx = y",
    "x = ' A '.strip().lower()",
    "x = 'abc'.startswith('ab')",
    "x = 'abc'.endswith('ab')",
]
"""Programs whose every value is known."""


@pytest.mark.parametrize("program", PROGRAMS)
def test_known_values_are_those_of_python(program: str) -> None:
    """Python itself says what is right."""
    assert followed(program) == computed(program)


@pytest.mark.parametrize("change", ["x.pop()", "x.extend(y)", "x.clear()", "x.insert(0, 1)", "x.remove(1)"])
def test_a_list_that_changes_in_another_way_may_hold_anything(change: str) -> None:
    """Only appending is followed."""
    found = value_of(f"import elsewhere\ny = elsewhere.more()\nx = [1]\n{change}\n")
    assert isinstance(found, Items)
    assert found.open
