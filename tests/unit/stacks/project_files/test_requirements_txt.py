"""Requirements files as pip reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
from finetune_compat.contract.errors import ProjectFileError
from finetune_compat.stacks.project_files.reading import read_project
from project_builders import CASES, shown

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
