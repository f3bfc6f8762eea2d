"""Version constraints of Poetry, by the definitions in its documentation."""

from __future__ import annotations

import pytest
from finetune_compat.contract.errors import ProjectFileError
from finetune_compat.stacks.project_files.poetry_versions import specifier_of
from finetune_compat.stacks.project_files.value import Kind, Place
from packaging.specifiers import SpecifierSet


@pytest.mark.parametrize(
    ("constraint", "inside", "outside"),
    [
        ("^1.2.3", ("1.2.3", "1.99"), ("1.2.2", "2.0")),
        ("^0.2.3", ("0.2.3", "0.2.9"), ("0.3.0",)),
        ("^0.0.3", ("0.0.3",), ("0.0.4",)),
        ("~1.2.3", ("1.2.3", "1.2.9"), ("1.3.0",)),
        ("~1.2", ("1.2.0", "1.2.9"), ("1.3.0",)),
        ("~1", ("1.0", "1.9"), ("2.0",)),
        ("1.2.*", ("1.2.0", "1.2.9"), ("1.3",)),
        ("1.2.3", ("1.2.3",), ("1.2.4",)),
        (">=1.2,<1.5", ("1.2", "1.4"), ("1.5",)),
        ("*", ("0.1", "9"), ()),
    ],
)
def test_a_constraint_accepts_what_poetry_documents(
    constraint: str, inside: tuple[str, ...], outside: tuple[str, ...]
) -> None:
    """As a PEP 440 specifier."""
    specifier = specifier_of(constraint, Place("pyproject.toml"), Kind.PYPROJECT)
    assert specifier is not None
    accepted = SpecifierSet(specifier)
    assert [version for version in (*inside, *outside) if accepted.contains(version)] == [*inside]


def test_what_pep_440_cannot_say() -> None:
    """Two ranges."""
    assert specifier_of("^1 || ^3", Place("pyproject.toml"), Kind.PYPROJECT) is None


@pytest.mark.parametrize("constraint", ["^^1", 3, "x" * 30_000, ["1"]])
def test_what_is_no_constraint(constraint: object) -> None:
    """One error with the place."""
    with pytest.raises(ProjectFileError, match="is not a version constraint of Poetry"):
        specifier_of(constraint, Place("pyproject.toml", 3), Kind.PYPROJECT)
