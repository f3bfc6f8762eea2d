"""Functions of Python give what Python gives, and releases are those of the project."""

from __future__ import annotations

import pytest
from audit_builders import Decided, computed, followed, path_of, plain, value_of

PROGRAMS = [
    "x = [str(1), int('2'), float(3), bool('')]",
    "x = dict({'a': 1}, b=2)",
    "x = len([1, 2])",
    "x = list((1, 2))",
    "import copy\nx = copy.deepcopy({'a': [1]})",
    "import os\nx = os.path.join('a', 'b')",
    "class A:\n    pass\na = A()\nsetattr(a, 'y', 2)\nx = getattr(a, 'y')",
]
"""Programs whose every value is known."""


@pytest.mark.parametrize("program", PROGRAMS)
def test_known_values_are_those_of_python(program: str) -> None:
    """Python itself says what is right."""
    assert followed(program) == computed(program)


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("Version(trl.__version__) >= Version('0.20')", True),
        ("Version(trl.__version__) < Version('0.9')", False),
        ("version('transformers') == '4.56.0'", True),
        ("Version(version('trl')) != Version('0.22.2')", False),
        ("hasattr(trl, 'SFTTrainer')", True),
        ("hasattr(trl, 'DataCollatorForCompletionOnlyLM')", False),
        ("'max_seq_length' in inspect.signature(trl.SFTConfig).parameters", False),
        ("'max_length' in inspect.signature(trl.SFTConfig.__init__).parameters", True),
    ],
)
def test_code_that_asks_for_the_release_gets_its_answer(condition: str, holds: bool) -> None:
    """Without a decision. The releases are TRL 0.22.2 and Transformers 4.56.0."""
    decisions = Decided(not holds)
    program = (
        "import inspect, trl\nfrom importlib.metadata import version\nfrom packaging.version import Version\n"
        f"x = 1 if {condition} else 2\n"
    )
    assert plain(value_of(program, path=path_of(decisions))) == (1 if holds else 2)
    assert decisions.asked == []
