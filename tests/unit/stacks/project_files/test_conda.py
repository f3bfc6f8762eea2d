"""Environment files of conda and conda-lock: packages of pip are read, and those of conda are named."""

from __future__ import annotations

import pytest
from finetune_compat.stacks.project_files.conda import read
from finetune_compat.stacks.project_files.value import Kind
from project_builders import refused, shown, text

ENVIRONMENT = """name: train
channels: [conda-forge]
dependencies:
  - {python}
  - numpy=2.2
  - pip:
    - trl==0.22.2
    - peft>=0.17
"""


class TestEnvironments:
    def test_packages_of_pip_are_read(self) -> None:
        """Each has its line; those of conda are named with the reason."""
        found = read(text(ENVIRONMENT.format(python="python=3.11")))
        assert (found.kind, shown(found)) == (Kind.CONDA_ENVIRONMENT, ["trl==0.22.2 on 7", "peft>=0.17 on 8"])
        assert [(item.what, item.place.line) for item in found.unread] == [("python=3.11", 4), ("numpy=2.2", 5)]

    @pytest.mark.parametrize(
        ("spec", "python"),
        [
            ("python=3.11", "==3.11.*"),
            ("python==3.10", "==3.10.*"),
            ("python=3.11.9=h955ad1f_0", "==3.11.*"),
            ("conda-forge::python=3.12", "==3.12.*"),
            ("python 3.11.*", "==3.11.*"),
            ("python 3.12.4 h955ad1f_0", "==3.12.*"),
            ("python", ""),
            ("python>=3.10", ">=3.10"),
            ("python >=3.11,<3.13", "<3.13,>=3.11"),
            ("python 3.1?", ""),
            ("python-dateutil=2.9", ""),
            ("python_abi=3.11", ""),
        ],
    )
    def test_the_python_of_a_spec(self, spec: str, python: str) -> None:
        """`=` of conda accepts every patch."""
        assert read(text(ENVIRONMENT.format(python=spec))).requires_python == python

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            ("dependencies: trl\n", "file:1: `dependencies` is not a list"),
            ("dependencies:\n  - a\n  - [b]\n", "file:3: an entry of `dependencies` is neither text nor `pip:`"),
            ("dependencies:\n  - a: b\n", "file:2: an entry of `dependencies` is neither text nor `pip:`"),
            ("services: {}\n", "file: it names no packages"),
            ("- trl\n", "file: it names no packages"),
        ],
    )
    def test_another_file_is_refused(self, content: str, problem: str) -> None:
        """YAML is used for much."""
        assert refused(lambda: read(text(content))) == problem

    def test_an_invalid_line_of_pip_is_an_error_of_this_file(self) -> None:
        """Not of a requirements file."""
        content = "dependencies:\n  - pip:\n    - trl==\n"
        assert refused(lambda: read(text(content))).startswith("file:3: 'trl==' is not a valid requirement")


def locked(**fields: str) -> str:
    """A lock of one package."""
    lines = "".join(f"  {key}: {value}\n" for key, value in fields.items())
    return f"version: 1\npackage:\n-{lines[1:]}"


TRL = {"name": "trl", "version": "0.22.2", "manager": "pip", "platform": "linux-64"}


class TestLocks:
    @pytest.mark.parametrize(
        ("changed", "packages"),
        [
            ({}, ["trl==0.22.2 on 3"]),
            ({"category": "main"}, ["trl==0.22.2 on 3"]),
            ({"category": "dev"}, ["trl==0.22.2 on 3 in group dev"]),
            ({"platform": "osx-arm64"}, []),
            ({"platform": "win-64"}, []),
            ({"platform": "noarch"}, ["trl==0.22.2 on 3"]),
            ({"url": "https://x.org/trl-0.22.2-py3-none-any.whl"}, ["trl==0.22.2 on 3"]),
            ({"url": "git+https://x.org/trl@ab"}, ["trl @ git+https://x.org/trl@ab on 3"]),
        ],
    )
    def test_packages_of_pip_for_linux_are_read(self, changed: dict[str, str], packages: list[str]) -> None:
        """A lock holds every package once for each platform."""
        found = read(text(locked(**{**TRL, **changed})))
        assert (found.kind, shown(found), found.unread) == (Kind.CONDA_LOCK, packages, ())

    def test_packages_of_conda_are_named(self) -> None:
        """Python is one of them."""
        found = read(text(locked(name="python", version="3.11.9", manager="conda", platform="linux-64")))
        assert (found.requires_python, found.packages) == ("==3.11.*", ())
        assert [item.what for item in found.unread] == ["python 3.11.9"]

    def test_another_manager_is_refused(self) -> None:
        """There are two."""
        problem = refused(lambda: read(text(locked(**{**TRL, "manager": "npm"}))))
        assert problem == "file:3: the manager of 'trl' is 'npm', not conda or pip"
