"""Run a notebook's code cells in order: `python -m finetune_compat.cell.script.notebook NOTEBOOK [ARGUMENT]...`

IPython is not imported, because stacks do not have it. What only IPython understands becomes Python where it runs
Python (`%%time`), and is left out with a note otherwise (`!pip install`). Lines of a cell keep their numbers.
"""

from __future__ import annotations

import io
import json
import linecache
import re
import sys
import textwrap
import tokenize
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from finetune_compat.cell.script import process

_RUNS_CELL = ("%%time", "%%timeit", "%%capture", "%%prun")
"""Cell magics that run the cell as Python. What they measure is not needed."""

_RUNS_LINE = ("%time", "%timeit", "%prun")
"""Line magics that run the rest of the line as Python."""

_LINE = re.compile(r"(?P<indent>\s*)(?P<assigned>[\w., ]+=\s*)?(?P<magic>[%!?].*|[\w.]+\?{1,2}\s*)")
"""A line for IPython: a magic, a shell command or a question; the first two may be assigned to a name."""

_OPTIONS = re.compile(r"(-\w+\s*\d*\s+)*")

_INSTALLS = re.compile(r"[%!]+\s*(uv +)?(pip3?|conda|mamba|apt|apt-get|python3? -m pip)\b")

_VARIABLE = re.compile(r"%(?:set_)?env\s+(\w+)[=\s]\s*(.+)")

CAPTURED = "__captured__"
"""Name of the object that `%%capture name` assigns to `name`."""


def as_python(source: str) -> tuple[str, list[str]]:
    """A cell's source as Python, and the lines that were left out."""
    lines = source.split("\n")
    first = _first(lines, 0)
    while lines[first].lstrip().startswith("%%"):
        magic = lines[first].strip()
        if magic.split()[0] not in _RUNS_CELL:
            return "", [magic]
        words = [word for word in magic.split()[1:] if not word.startswith("-")]
        lines[first] = f"{words[0]} = {CAPTURED}" if magic.startswith("%%capture") and words else ""
        first = _first(lines, first + 1)
    if lines[first][:1].isspace():
        lines = textwrap.dedent("\n".join(lines)).split("\n")
    return _without_magics(lines)


def _first(lines: list[str], start: int) -> int:
    """Index of the first line from `start` on that is not empty; of the last line if all are."""
    return next((number for number in range(start, len(lines)) if lines[number].strip()), len(lines) - 1)


def _without_magics(lines: Sequence[str]) -> tuple[str, list[str]]:
    kept: list[str] = []
    left_out = []
    rest = iter(lines)
    for line in rest:
        found = _LINE.fullmatch(line)
        if found is None or _continued(kept):
            kept.append(line)
            continue
        whole = [line]
        while whole[-1].endswith("\\"):
            whole.append(next(rest, ""))
        code = _runs(found)
        kept += [_instead(found) if code is None else code, *[""] * (len(whole) - 1)]
        left_out += [" ".join(part.rstrip("\\").strip() for part in whole)] if code is None else []
    return "\n".join(kept), left_out


def _continued(lines: Sequence[str]) -> bool:
    """Whether the statement of the last of `lines` goes on after it: then the next line is Python, whatever it is."""
    if lines and lines[-1].endswith("\\"):
        return True
    try:
        list(tokenize.generate_tokens(io.StringIO("\n".join(lines) + "\n").readline))
    except tokenize.TokenError:
        return True  # an open bracket or string
    except SyntaxError:
        return False
    return False


def _runs(line: re.Match[str]) -> str | None:
    """The Python that a line for IPython runs; None if it runs none."""
    magic, before = line["magic"], f"{line['indent']}{line['assigned'] or ''}"
    if variable := _VARIABLE.fullmatch(magic):
        return f'{before}__import__("os").environ.update({{{variable[1]!r}: {variable[2].strip()!r}}})'
    name, _, code = magic.partition(" ")
    return before + _OPTIONS.sub("", code.lstrip(), count=1) if name in _RUNS_LINE and code.strip() else None


def _instead(line: re.Match[str]) -> str:
    """The statement that replaces a line that is left out."""
    return f"{line['indent']}{line['assigned']}[]" if line["assigned"] else f"{line['indent']}pass"


def main(place: str) -> None:
    """Run the notebook `place` as `__main__`, with the rest of the command line as its arguments."""
    cells = json.loads(Path(place).read_text(encoding="utf-8"))["cells"]
    sys.argv = sys.argv[1:]
    # A kernel runs in the notebook's directory, and imports modules from there.
    sys.path.insert(0, str(Path(place).resolve().parent))
    namespace: dict[str, Any] = vars(sys.modules["__main__"])
    captured = SimpleNamespace(stdout="", stderr="", outputs=[], show=lambda: None)
    namespace.update({"__name__": "__main__", "display": print, "get_ipython": lambda: None, CAPTURED: captured})
    for number, cell in enumerate(cells, 1):
        if cell["cell_type"] != "code":
            continue
        code, left_out = as_python("".join(cell["source"]))
        for line in left_out:
            _note(number, line)
        name = str(Path(f"{Path(place).name}#{number}").absolute())
        linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
        exec(compile(code, name, "exec"), namespace)  # noqa: S102 - running the user's code is the purpose


def _note(cell: int, line: str) -> None:
    if process.current:
        instead = ": packages are those of the environment; --with adds others" if _INSTALLS.match(line) else ""
        process.current.notes.miss(f"cell {cell}: left out: {line}{instead}")


if __name__ == "__main__":
    main(sys.argv[1])
