"""The documents: links resolve, commands exist, and no number of the matrix is written by hand."""

from __future__ import annotations

import importlib.util
import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from finetune_compat import cli
from finetune_compat.machine.places import PACKAGE

ROOT = PACKAGE.parents[1]

_spec = importlib.util.spec_from_file_location("facts", ROOT / "docs" / "facts.py")
assert _spec is not None and _spec.loader is not None
facts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(facts)

PAGES = [page.relative_to(ROOT).as_posix() for page in facts.documents()]
MEASURED = {"docs/evidence.md", "docs/air-gapped.md", "reports/benchmarks/README.md"}
"""Pages of measurements: their numbers were measured on one day."""

each_page = pytest.mark.parametrize("page", PAGES)


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def prose(page: str) -> str:
    """Return the page without code blocks."""
    return re.sub(r"^```.*?^```$", "", read(page), flags=re.DOTALL | re.MULTILINE)


def anchors(path: Path) -> set[str]:
    """Return the ids that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(page: str) -> Iterator[tuple[list[str], list[str]]]:
    """Return the commands of `page`, each as the words before `--` and after it, without comments."""
    for line in re.findall(r"^ {4}(?:.*&& )?(?:\S*/)?((?:compat|nox) .+)$", read(page), re.MULTILINE):
        words = shlex.split(line, comments=True)
        cut = words.index("--") if "--" in words else len(words)
        yield words[:cut], words[cut + 1 :]


@each_page
def test_every_link_resolves_to_a_file_and_a_heading(page: str) -> None:
    """Links to the web are not followed."""
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@each_page
def test_every_compat_command_exists_with_its_options(page: str) -> None:
    """The command line itself is the reference."""
    root = typer.main.get_command(cli.app)
    for words, _ in commands(page):
        if words[0] != "compat":
            continue
        command, rest = root, words[1:]
        while rest and hasattr(command, "commands"):
            command, rest = command.commands[rest[0]], rest[1:]
        if command.name == "watch":  # arguments after the script belong to the script
            rest = [*itertools.takewhile(lambda word: not word.endswith((".py", ".ipynb")), rest)]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest if re.match(r"--?[a-z]", word)} <= known, words


@each_page
def test_every_option_of_a_session_is_in_the_noxfile(page: str) -> None:
    """`-k` and `-n` are options of pytest; a gate has the options of `compat gate`."""
    listed = set(re.findall(r"--[a-z-]+", read("noxfile.py"))) | {"--from", "--to"}
    for words, after in commands(page):
        options = {word for word in after if word.startswith("--")}
        assert words[0] != "nox" or options <= listed, after


@pytest.mark.parametrize("page", sorted(set(PAGES) - MEASURED))
def test_no_number_of_the_matrix_is_written_by_hand(page: str) -> None:
    """The numbers of cells, stacks, flows and checks come from the matrix and the catalog."""
    assert re.findall(r"\b\d[\d,]* (?:cells|stacks|flows|checks)\b", prose(page)) == []
    unmarked = facts.PLACE.sub("", prose(page))
    assert re.findall(r"(?:TRL|Transformers|PEFT) \d+\.\d+ to \d+\.\d+(?![.\d])", unmarked) == []


def test_version_ranges_are_those_of_the_matrix() -> None:
    """Otherwise: python docs/facts.py --write"""
    known = facts.facts()
    assert [page for page in PAGES if facts.filled_in(read(page), known) != read(page)] == []
    assert [page for page in PAGES if read(page).count("fact:") != len(facts.PLACE.findall(read(page)))] == []


def test_a_place_is_filled_in_and_nothing_else() -> None:
    place = "TRL <!-- fact:trl -->{}<!-- /fact --> trains."
    assert facts.filled_in(place.format("0.1 to 0.2"), {"trl": "0.4 to 1.16"}) == place.format("0.4 to 1.16")


def test_the_architecture_is_short() -> None:
    """The document does not repeat what the tree shows."""
    assert len(read("docs/architecture.md").splitlines()) < 150
