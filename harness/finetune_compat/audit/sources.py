"""The scripts and notebooks of a project, parsed. Nothing is imported."""

from __future__ import annotations

import ast
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from finetune_compat.affected.notes import one_line
from finetune_compat.contract.errors import CompatError
from finetune_compat.machine.foreign import parsed, read_text

LARGEST = 2_000_000
"""Bytes of a file. A larger one is data in the form of code."""

MOST = 5_000
"""Files of a project."""

_ASIDE = frozenset(
    {"node_modules", "site-packages", "__pycache__", "build", "dist", "venv", "env", "wandb", "outputs", "checkpoints"}
)
_MAGIC = re.compile(r"^\s*[%!?]|^\s*\w[\w.]*\?\??$|^\s*(\w+\s*=\s*)[%!]")
_CELL_MAGIC = re.compile(r"^%%(?!time|capture|timeit|prun)")


@dataclass(frozen=True)
class Source:
    """One script or notebook."""

    path: Path
    shown: str
    """As messages name it."""
    text: str
    """Its Python; of a notebook its code cells, one after the other, without magics."""
    cells: tuple[tuple[int, int], ...] = field(default=())
    """Of a notebook: the first line of each code cell in `text`, and the number of the cell."""

    @cached_property
    def tree(self) -> ast.Module:
        """Raises SyntaxError if it is not valid Python 3."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return ast.parse(self.text)
            except (ValueError, RecursionError, MemoryError) as error:
                raise SyntaxError(str(error) or "it is nested too deeply") from None

    def where(self, line: int) -> str:
        """`file:line`; of a notebook `file, cell 3, line 2`."""
        if not self.cells:
            return f"{self.shown}:{line}"
        first, number = max(cell for cell in self.cells if cell[0] <= max(line, 1))
        return f"{self.shown}, cell {number}, line {line - first + 1}"


@dataclass(frozen=True, slots=True)
class Unread:
    """A file that could not be read."""

    shown: str
    line: int
    problem: str


def find_sources(path: Path) -> tuple[list[Source], list[Unread]]:
    """The scripts and notebooks at `path`, in order of their names.

    Raises:
        CompatError: there is no such path, it is no script, or there are too many files.
    """
    files = list(_files(path))
    if not files:
        raise CompatError(
            "has no scripts or notebooks" if path.exists() else "does not exist",
            where=str(path),
            meaning="compat audit reads files that end with .py or .ipynb.",
            todo="Name a script, a notebook, or the directory of a project.",
        )
    if len(files) > MOST:
        raise CompatError(
            f"has more than {MOST:,} scripts",
            where=str(path),
            meaning="This is usually an environment or a directory above several projects.",
            todo="Name the directory of one project.",
        )
    root = path if path.is_dir() else path.parent
    sources: list[Source] = []
    unread: list[Unread] = []
    for file in files:
        read = read_source(file, root)
        (sources if isinstance(read, Source) else unread).append(read)  # type: ignore[arg-type]
    return sources, unread


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        if path.suffix in (".py", ".ipynb"):
            yield path
        return
    for folder, names, files in os.walk(path):
        names[:] = sorted(name for name in names if not _is_aside(Path(folder, name)))
        yield from (Path(folder, name) for name in sorted(files) if name.endswith((".py", ".ipynb")))


def _is_aside(folder: Path) -> bool:
    hidden = folder.name.startswith(".") or folder.name in _ASIDE
    return hidden or (folder / "pyvenv.cfg").is_file() or folder.is_symlink()


def read_source(file: Path, root: Path) -> Source | Unread:
    """The parsed file, or why it could not be read."""
    shown = one_line(file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file))
    try:
        text = read_text(file, LARGEST).removeprefix("\ufeff")
        source = _notebook(file, shown, text) if file.suffix == ".ipynb" else Source(file, shown, text)
        source.tree  # noqa: B018 - parsed here, so that every source has a tree
    except SyntaxError as error:
        return Unread(shown, error.lineno or 1, f"not Python 3: {one_line(error.msg)}")
    except (OSError, ValueError, RecursionError) as error:
        return Unread(shown, 1, one_line(getattr(error, "strerror", None) or str(error)))
    return source


# ------------------------------------------------------------------------------------------------------------ notebooks


def _notebook(file: Path, shown: str, text: str) -> Source:
    """Raises ValueError if it is no notebook."""
    content = parsed(text.encode())
    cells = content.get("cells") if isinstance(content, dict) else None
    if not isinstance(cells, list):
        raise ValueError("not a notebook: it has no cells")  # noqa: TRY004 - the content of a file
    lines: list[str] = []
    starts: list[tuple[int, int]] = []
    for number, cell in enumerate(cells, 1):
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            starts.append((len(lines) + 1, number))
            lines += _python(cell.get("source", ""))
    return Source(file, shown, "\n".join(lines) + "\n", tuple(starts) or ((1, 1),))


def _python(source: str | Sequence[str]) -> list[str]:
    """The lines of a cell, with magics as comments: the number of lines stays."""
    lines = ("".join(source) if not isinstance(source, str) else source).split("\n")
    if lines and _CELL_MAGIC.match(lines[0]):
        return [f"# {line}" for line in lines]
    return [_without_magic(line) for line in lines]


def _without_magic(line: str) -> str:
    found = _MAGIC.match(line)
    if not found:
        return line
    space = line[: len(line) - len(line.lstrip())]
    return f"{space}{found[1]}None" if found[1] else f"{space}pass  # {line.strip()}"
