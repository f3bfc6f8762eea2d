"""Scripts with inline metadata, as PEP 723 defines it."""

from __future__ import annotations

import pytest
from finetune_compat.stacks.project_files.script import read
from finetune_compat.stacks.project_files.value import Kind
from project_builders import refused, shown, text

SCRIPT = """#!/usr/bin/env python
# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "trl==0.22.2",
#   "peft",
# ]
#
# [tool.uv]
# constraint-dependencies = ["numpy<2"]
# ///
import trl
"""


def test_the_block_is_read() -> None:
    """With the lines of the script, and the table of uv."""
    found = read(text(SCRIPT))
    assert (found.kind, found.requires_python) == (Kind.SCRIPT, ">=3.11")
    assert shown(found) == ["trl==0.22.2 on 5", "peft on 6", "numpy<2 on 10 only a limit"]


def test_the_code_does_not_matter() -> None:
    """It is neither run nor parsed."""
    assert shown(read(text(SCRIPT + "print 'x'\nraise SystemExit\n"))) == shown(read(text(SCRIPT)))


def test_a_block_without_dependencies_names_none() -> None:
    """PEP 723 requires no field."""
    assert read(text("# /// script\n# ///\n")).packages == ()


def test_the_block_ends_at_its_last_end() -> None:
    """PEP 723: the last line `# ///` of the comment."""
    content = '# /// script\n# dependencies = ["""trl\n# ///\n# """]\n# ///\n'
    assert refused(lambda: read(text(content))).startswith("file:2: ")
    content = '# /// script\n# dependencies = ["trl"]\n# ///\n# [tool.x]\n'
    assert shown(read(text(content))) == ["trl on 2"]


def test_a_block_of_another_type_is_none() -> None:
    """Its name is `script`."""
    assert refused(lambda: read(text("# /// other\n# ///\n"))) == "file: it names no packages"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("import trl\n", "file: it names no packages"),
        ("# /// script\n# dependencies = []\n", "file:1: its `# /// script` block has no end `# ///`"),
        ("# /// script\n# a = 1\n\n# ///\n", "file:1: its `# /// script` block has no end `# ///`"),
        ("# /// script\n#a = 1\n# ///\n", "file:1: its `# /// script` block has no end `# ///`"),
        (SCRIPT + SCRIPT, "file:14: it has two `# /// script` blocks"),
        ("# /// script\n# a = 1\n# b =\n# ///\n", "file:3: it is not TOML: Invalid value"),
        (
            "# /// script\n# dependencies = 'trl'\n# ///\n",
            "file:2: dependencies is 'trl' and not a list of requirements",
        ),
    ],
)
def test_a_broken_block_is_refused(content: str, problem: str) -> None:
    """With the line in the script."""
    assert refused(lambda: read(text(content))) == problem
