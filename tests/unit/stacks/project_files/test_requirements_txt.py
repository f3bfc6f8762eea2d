"""Requirements files as pip reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
from finetune_compat.contract.errors import ProjectFileError
from finetune_compat.stacks.project_files.reading import read_project
from finetune_compat.stacks.project_files.requirements_txt import read as read_lines
from finetune_compat.stacks.project_files.value import Origin
from project_builders import CASES, refused, shown, text

TXT = (
    "It is read as a requirements file, the format of pip, because it is of no other kind.\n"
    "Correct that line; `pip install --dry-run -r FILE` reads the same format."
)


def test_files_that_include_each_other() -> None:
    """The line of the include that closes the circle."""
    folder = CASES / "refused" / "cyclic"
    with pytest.raises(ProjectFileError) as raised:
        read_project(folder / "a.txt")
    assert str(raised.value) == f"{folder / 'b.txt'}:1: it includes {folder / 'a.txt'}, which includes this file\n{TXT}"


def test_a_requirements_file_that_names_its_own_project(tmp_path: Path) -> None:
    """`-e .[train]` installs what the project names, with that extra."""
    (tmp_path / "requirements.txt").write_text("-e .[train]\n")
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "x"\ndependencies = ["peft"]\n'
        '[project.optional-dependencies]\ntrain = ["trl==0.22.2"]\ndocs = ["sphinx"]\n'
    )
    found = read_project(tmp_path / "requirements.txt")
    assert shown(found) == ["peft on 3", "trl==0.22.2 on 5"]
    assert list(map(str, found.unread)) == [".[train]: a project: what it names is read, and it is not installed"]


@pytest.mark.parametrize(
    ("content", "packages"),
    [
        ("trl==0.22.2 # why\n#peft\n\n", ["trl==0.22.2 on 1"]),
        ("trl \\\n  ==0.22.2\npeft\n", ["trl==0.22.2 on 1", "peft on 3"]),
        ("trl==0.22.2 \\\n    --hash=sha256:00 \\\n    --hash=sha256:11\n", ["trl==0.22.2 on 1"]),
        ("trl==0.22.2 --config-settings=a=b --global-option x\n", ["trl==0.22.2 on 1"]),
        ("trl; python_version < '3.12'\n", ['trl on 1 if python_version < "3.12"']),
        ("trl @ https://x.org/a#b\n", ["trl @ https://x.org/a#b on 1"]),
        ("trl  >=0.22  \n", ["trl>=0.22 on 1"]),
        ("trl @ git+https://${TOKEN}@x.org/trl\n", ["trl @ git+https://REDACTED@x.org/trl on 1"]),
        ("-e git+https://x.org/trl@v1#egg=trl\n", ["trl @ git+https://x.org/trl@v1#egg=trl on 1"]),
        ("--editable=git+https://x.org/trl#egg=trl\n", ["trl @ git+https://x.org/trl#egg=trl on 1"]),
        ("./trl-1.0-py3-none-any.whl ; python_version < '3.12'\n", ["trl @ ./trl-1.0-py3-none-any.whl on 1 if"]),
    ],
)
def test_a_line(content: str, packages: list[str]) -> None:
    """Joined at backslashes; without comments, hashes and options of one requirement, as pip does."""
    found = shown(read_lines(text(content)))
    assert [one.startswith(package) for one, package in zip(found, packages, strict=True)] == [True] * len(packages)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("--extra-index-url https://x.org", "another index; packages come from the default index"),
        ("-i https://x.org/simple", "another index; packages come from the default index"),
        ("-f ./wheels", "another index; packages come from the default index"),
        ("--no-binary=:all:", "an option of pip"),
        ("--pre", "an option of pip"),
        ("-e ../ours", "a folder, an archive or a repository that states no name"),
        ("https://x.org/trl-1.0.tar.gz", "a folder, an archive or a repository that states no name"),
    ],
)
def test_what_is_not_read_is_named(line: str, reason: str) -> None:
    """It could change what is installed."""
    found = read_lines(text(f"{line}\n"))
    assert (found.packages, [item.reason for item in found.unread]) == ((), [reason])


def test_the_default_index_is_no_other_index() -> None:
    """pip-compile writes it into every file."""
    found = read_lines(text("-i https://pypi.org/simple/\n--index-url https://pypi.org/simple\n"))
    assert (found.packages, found.unread) == ((), ())


def test_a_wheel_has_its_version() -> None:
    """In its name."""
    (found,) = read_lines(text("https://x.org/torch-2.8.0%2Bcu126-cp311-cp311-linux_x86_64.whl\n")).packages
    assert (found.name, found.version, found.source.origin) == ("torch", "2.8.0+cu126", Origin.URL)


def test_includes_are_read_once(tmp_path: Path) -> None:
    """A constraint limits; what a constraints file includes only limits too."""
    (tmp_path / "a.txt").write_text("-r b.txt\n-r b.txt\n-c c.txt\n")
    (tmp_path / "b.txt").write_text("trl\n")
    (tmp_path / "c.txt").write_text("-r d.txt\npeft<1\n")
    (tmp_path / "d.txt").write_text("numpy<2\n")
    assert shown(read_project(tmp_path / "a.txt")) == [
        "trl on 1",
        "numpy<2 on 1 only a limit",
        "peft<1 on 2 only a limit",
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("\ntrl=0.22.2\n", "file:2: 'trl=0.22.2' has one equals sign; write trl==0.22.2"),
        ("numpy=2.2.0=py311_0\n", "file:1: this is a list of conda packages"),
        ("@EXPLICIT\n", "file:1: this is a list of conda packages"),
        ("Package    Version\n", "file:1: this is a table that `pip list` or `conda list` prints"),
        ("# x\ntrl   0.22.2   pypi_0   pypi\n", "file:2: this is a table that `pip list` or `conda list` prints"),
        ("trl==${TRL}\n", "file:1: it takes this version from an environment variable"),
        ("-r https://x.org/r.txt\n", "file:1: it includes 'https://x.org/r.txt', which is not a local file"),
        ("-r\n", "file:1: it includes '', which is not a local file"),
    ],
)
def test_what_is_no_such_line_is_refused(content: str, problem: str) -> None:
    """Other tools write lists too, and nothing is downloaded."""
    assert refused(lambda: read_lines(text(content))) == problem
