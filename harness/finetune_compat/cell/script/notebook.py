"""Run a notebook's code cells in order: `python -m finetune_compat.cell.script.notebook NOTEBOOK [ARGUMENT]...`"""

from __future__ import annotations

import ast
import json
import linecache
import sys
from pathlib import Path
from typing import Any

from finetune_compat.cell.script import process


def without_magics(source: str) -> tuple[str, list[str]]:
    """The code of a cell without IPython's magic lines, and those lines. Line numbers stay the same."""
    if source.lstrip().startswith("%%"):
        return "", [source.lstrip().partition("\n")[0]]
    kept, left_out = [], []
    for line in source.splitlines():
        magic = line.lstrip().startswith(("%", "!", "?")) and not _parses(source)
        kept.append(line[: len(line) - len(line.lstrip())] + "pass" if magic else line)
        left_out += [line.strip()] if magic else []
    return "\n".join(kept), left_out


def _parses(source: str) -> bool:
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True


def main(place: str) -> None:
    """Run the notebook `place` as `__main__`, with the rest of the command line as its arguments."""
    cells = json.loads(Path(place).read_text(encoding="utf-8"))["cells"]
    sys.argv = sys.argv[1:]
    namespace: dict[str, Any] = vars(sys.modules["__main__"])
    namespace.update({"__name__": "__main__", "display": print})
    for number, cell in enumerate(cells, 1):
        if cell["cell_type"] != "code":
            continue
        code, left_out = without_magics("".join(cell["source"]))
        for line in left_out:
            if process.current:
                process.current.notes.miss(f"cell {number}: left out: {line}")
        name = str(Path(f"{Path(place).name}#{number}").absolute())
        linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
        exec(compile(code, name, "exec"), namespace)  # noqa: S102 - running the user's code is the purpose


if __name__ == "__main__":
    main(sys.argv[1])
