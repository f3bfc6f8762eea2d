"""Scripts with inline metadata (PEP 723). The script is not run, and not parsed as Python."""

from __future__ import annotations

import re

from finetune_compat.contract.errors import ProjectFileError
from finetune_compat.stacks.project_files import pyproject
from finetune_compat.stacks.project_files.text import Text, broken, read_toml
from finetune_compat.stacks.project_files.value import Kind, Project

_KIND = Kind.SCRIPT
_BEGIN, _END = "# /// script", "# ///"


def read(text: Text) -> Project:
    """The packages of the script's metadata block.

    Raises:
        ProjectFileError: there is no block, there are several, or it is not valid.
    """
    lines = [line.rstrip() for line in text.lines]
    begins = [number for number, line in enumerate(lines, 1) if line == _BEGIN]
    if not begins:
        raise ProjectFileError(
            "it names no packages",
            where=str(text.path),
            meaning="It has no `# /// script` block (PEP 723), and a script is never run to find out.",
            todo="Name the project's lock file or requirements.txt; `compat gate --flow` takes the script itself.",
        )
    if len(begins) > 1:
        raise broken(_KIND, text.place(begins[1]), "it has two `# /// script` blocks")
    first = begins[0]
    block = []
    for line in lines[first:]:
        if not re.match(r"#( |$)", line):
            break
        block.append(line)
    while block and block[-1] != _END:
        block.pop()
    if not block:
        raise broken(_KIND, text.place(first), "its `# /// script` block has no end `# ///`")
    inner = Text(text.path, "\n".join(line[2:] for line in block[:-1]), first_line=first + 1)
    raw = read_toml(inner, _KIND)
    project = {key: raw[key] for key in ("dependencies", "requires-python") if key in raw}
    found = pyproject.read(inner, {"project": {"name": "", **project}, "tool": raw.get("tool", {})})
    return Project(_KIND, text.path, found.packages, found.unread, found.requires_python)
