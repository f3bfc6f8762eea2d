"""Read text, TOML, JSON and YAML of any origin: in bounded time and memory, with one error for each fault."""

from __future__ import annotations

import codecs
import json
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tomli

from finetune_compat.contract.errors import ProjectFileError, why
from finetune_compat.stacks.project_files.value import Kind, Place

LARGEST = 8_000_000
"""Maximum size of a file in bytes. The largest lock files of real projects have 4 MB."""
MOST_LINES = 200_000
"""Maximum number of lines of a file. A lock of 1,000 packages with all their hashes has 30,000."""
LONGEST = 20_000
"""Maximum number of characters of one requirement, marker or version."""
SHOWN = 120
"""Maximum number of characters of a line that a message quotes."""

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""UTF-32-LE precedes UTF-16-LE, because its byte order mark begins with that of UTF-16-LE."""

_WRITTEN_BY = {
    Kind.PYPROJECT: ("It is edited by hand: a quote, a bracket or a comma is missing.", "Correct it at that place."),
    Kind.UV_LOCK: ("It was edited by hand, or a merge broke it.", "Make it again: `uv lock`."),
    Kind.POETRY_LOCK: ("It was edited by hand, or a merge broke it.", "Make it again: `poetry lock`."),
    Kind.PDM_LOCK: ("It was edited by hand, or a merge broke it.", "Make it again: `pdm lock`."),
    Kind.PIPFILE_LOCK: ("It was edited by hand, or a merge broke it.", "Make it again: `pipenv lock`."),
    Kind.PYLOCK: ("It is not a lock as PEP 751 defines it.", "Make it again: `uv export --format pylock.toml`."),
    Kind.REQUIREMENTS: (
        "It is read as a requirements file, the format of pip, because it is of no other kind.",
        "Correct that line; `pip install --dry-run -r FILE` reads the same format.",
    ),
    Kind.CONDA_ENVIRONMENT: (
        "By its name it is the environment file of conda.",
        "Make it again: `conda env export --no-builds`.",
    ),
    Kind.CONDA_LOCK: ("It was edited by hand, or a merge broke it.", "Make it again: `conda-lock`."),
    Kind.SCRIPT: ("The `# /// script` block of a script is TOML in comments (PEP 723).", "Correct the block."),
    Kind.PIP_LIST: (
        "A JSON file must be what `pip list` or `uv pip list` prints, or a Pipfile.lock.",
        "Make it again: `pip list --format json`.",
    ),
    Kind.ENVIRONMENT: (
        "It is a folder with an interpreter and its packages.",
        "Name the folder of a virtual environment, or the output of `pip freeze`.",
    ),
}


def broken(kind: Kind, place: Place, problem: str) -> ProjectFileError:
    """The error for a file that is not what its name says."""
    meaning, todo = _WRITTEN_BY[kind]
    return ProjectFileError(problem, where=str(place), meaning=meaning, todo=todo)


def other_version(kind: Kind, place: Place, stated: object, read: str) -> ProjectFileError:
    """The error for a lock of a format version that is not read."""
    return ProjectFileError(
        f"its format has version {quoted(stated)}, and {read} is read",
        where=str(place),
        meaning=f"Another release of the tool wrote this {kind}.",
        todo="Export it as requirements.txt or pylock.toml, which every release of the tool writes alike.",
    )


def quoted(value: object) -> str:
    """A value of a file, as a message shows it."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


# ---------------------------------------------------------------------------------------------------------------- text


@dataclass(frozen=True)
class Text:
    """The text of a file, with the places of its lines."""

    path: Path
    content: str
    first_line: int = 1

    @cached_property
    def lines(self) -> list[str]:
        """Its lines. Only CR and LF end a line."""
        return re.split(r"\r\n|\r|\n", self.content)

    def place(self, line: int = 0) -> Place:
        """A line, counted from 1, or the whole text."""
        return Place(str(self.path), line + self.first_line - 1 if line else 0)

    def headers(self, header: str, count: int) -> list[int]:
        """The lines that are `header`, if there are `count` of them; else zeros, because one stands in a string."""
        found = [number for number, line in enumerate(self.lines, 1) if line.rstrip() == header]
        return found if len(found) == count else [0] * count

    def find(self, *words: str, after: int = 0) -> int:
        """The first line after line `after` that contains one of `words`; 0 if there is none."""
        return next(
            (
                number
                for number, line in enumerate(self.lines[after:], after + 1)
                if any(word in line for word in words)
            ),
            0,
        )

    def key(self, name: str, *, after: int = 0) -> int:
        """The first line after line `after` that assigns or opens the TOML key or table `name`; 0 if there is none."""
        key = re.compile(rf"\s*\[*(?:[\w.\"-]+\.)?[\"']?{re.escape(name)}[\"']?(?:\s*=|\]|\.|\s*$)")
        return next((number for number, line in enumerate(self.lines[after:], after + 1) if key.match(line)), 0)


def read_text(path: Path) -> Text:
    """The text of a file, decoded by its byte order mark, else as UTF-8, as pip and uv do.

    Raises:
        ProjectFileError: it cannot be read, is too large, is not text, or is not a file.
    """
    raw = _bytes(path)
    mark, encoding = next(((mark, name) for mark, name in _BOMS if raw.startswith(mark)), (b"", "utf-8"))
    try:
        content = raw.removeprefix(mark).decode(encoding)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ProjectFileError(
            f"this is not {encoding.upper()} text: {error.reason} at byte {error.start}",
            where=str(Place(str(path), line)),
            meaning="It is a binary file, or an editor saved it in another encoding.",
            todo="Save it as UTF-8.",
        ) from None
    if "\0" in content:
        raise ProjectFileError(
            "it contains a NUL character",
            where=str(Place(str(path), content.count("\n", 0, content.index("\0")) + 1)),
            meaning="It is a binary file, or UTF-16 without a byte order mark.",
            todo="Save it as UTF-8.",
        )
    if content.count("\n") > MOST_LINES:
        raise _too_large(path, f"it has more than {MOST_LINES:,} lines")
    return Text(path, content)


def _too_large(path: Path, problem: str) -> ProjectFileError:
    return ProjectFileError(
        problem,
        where=str(path),
        meaning="No file that names packages is so large: this is another file.",
        todo="Name the file that lists the packages.",
    )


def _bytes(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        # A pipe of the shell, as in `--from <(pip freeze)`. Any other device or pipe may never end.
        piped = stat.S_ISFIFO(mode) and str(path).startswith(("/dev/fd/", "/proc/self/fd/"))
        if not stat.S_ISREG(mode) and not piped:
            raise ProjectFileError(
                "this is neither a file nor a folder",
                where=str(path),
                meaning="It is a device, a socket or a pipe.",
                todo="Name a file.",
            )
        with path.open("rb") as file:
            raw = file.read(LARGEST + 1)
    except OSError as error:
        raise ProjectFileError(
            f"it cannot be read: {why(error)}",
            where=str(path),
            meaning="The path is misspelt, or this user may not read it.",
            todo="Correct the path or its permissions.",
        ) from None
    if len(raw) > LARGEST:
        raise _too_large(path, f"it has more than {LARGEST / 1e6:.0f} MB")
    return raw


# ------------------------------------------------------------------------------------------------------ TOML and JSON


def read_toml(text: Text, kind: Kind) -> Mapping[str, Any]:
    """The content of a TOML file.

    Raises:
        ProjectFileError: it is not TOML.
    """
    try:
        return tomli.loads(text.content)
    except tomli.TOMLDecodeError as error:
        raise broken(kind, text.place(error.lineno), f"it is not TOML: {error.msg}") from None
    except (RecursionError, ValueError) as error:
        raise broken(kind, text.place(), f"it is not TOML: {error}") from None


def read_json(text: Text, kind: Kind) -> Any:
    """The content of a JSON file.

    Raises:
        ProjectFileError: it is not JSON.
    """
    try:
        return json.loads(text.content)
    except json.JSONDecodeError as error:
        raise broken(kind, text.place(error.lineno), f"it is not JSON: {error.msg}") from None
    except (RecursionError, ValueError):
        raise broken(kind, text.place(), "it is not JSON: it is nested too deeply, or a number is too long") from None


# ---------------------------------------------------------------------------------------------------------------- YAML


@dataclass(frozen=True, slots=True)
class Node:
    """A YAML value with its line: a text, a list of nodes, or a table of nodes."""

    line: int
    value: str | Sequence[Node] | Mapping[str, Node]

    @property
    def table(self) -> Mapping[str, Node]:
        """The table; empty if it is none."""
        return self.value if isinstance(self.value, Mapping) else {}

    @property
    def items(self) -> Sequence[Node]:
        """The list; empty if it is none."""
        return () if isinstance(self.value, str | Mapping) else self.value

    @property
    def text(self) -> str:
        """The text; empty if it is none."""
        return self.value if isinstance(self.value, str) else ""

    def get(self, key: str) -> str:
        """The text below `key`; empty if there is none."""
        return self.table[key].text if key in self.table else ""


_MOST_NODES = 400_000
"""Maximum number of values of a YAML file, with those that aliases repeat."""


def read_yaml(text: Text, kind: Kind) -> Node:
    """The content of a YAML file, with all scalars as text.

    Raises:
        ProjectFileError: it is not YAML, or its aliases expand to too many values.
    """
    import yaml

    if sum(map(text.content.count, ",:\n")) > _MOST_NODES:
        raise _too_large(text.path, f"it has more than {_MOST_NODES:,} values")
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        root = yaml.compose(text.content, Loader=loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise broken(kind, text.place(line), f"it is not YAML: {error.problem}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise broken(kind, text.place(), f"it is not YAML: {' '.join(str(error).split())[:SHOWN]}") from None
    budget = iter(range(_MOST_NODES))
    try:
        return Node(1, "") if root is None else _node(yaml, root, budget)
    except (RecursionError, StopIteration):
        raise broken(kind, text.place(), "its aliases repeat values without end") from None


def _node(yaml: Any, node: Any, budget: Iterator[int]) -> Node:
    next(budget)
    line = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        return Node(line, {_key(key): _node(yaml, value, budget) for key, value in node.value})
    if isinstance(node, yaml.SequenceNode):
        return Node(line, [_node(yaml, item, budget) for item in node.value])
    return Node(line, str(node.value))


def _key(node: Any) -> str:
    return node.value if isinstance(node.value, str) else ""
