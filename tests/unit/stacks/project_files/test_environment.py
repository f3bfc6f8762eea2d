"""Installed environments are read from the names of their metadata folders, and nothing in them is run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from finetune_compat.contract.errors import ProjectFileError
from finetune_compat.stacks.project_files.reading import read_project
from finetune_compat.stacks.project_files.value import Kind

SITE = Path("lib/python3.11/site-packages")


def venv(folder: Path, *packages: str, settings: str = "version = 3.11.7\n") -> Path:
    """Make an environment with these metadata folders."""
    (folder / "pyvenv.cfg").write_text(settings)
    for package in packages:
        (folder / SITE / package).mkdir(parents=True)
    (folder / "bin").mkdir()
    (folder / "bin" / "python3.11").touch()
    return folder


def test_a_folder_and_its_interpreter_are_the_same_environment(tmp_path: Path) -> None:
    """`lib64` is a link to `lib`: no package is there twice."""
    folder = venv(
        tmp_path, "trl-0.22.2.dist-info", "typing_extensions-4.15.0.dist-info", "old-1.0-py3.11.egg-info", "trl"
    )
    (folder / "lib64").symlink_to("lib")
    found = read_project(folder)
    assert (found.kind, found.requires_python, found.unread) == (Kind.ENVIRONMENT, "==3.11.*", ())
    assert sorted(map(str, found.packages)) == ["old==1.0", "trl==0.22.2", "typing-extensions==4.15.0"]
    assert read_project(folder / "bin" / "python3.11").packages == found.packages


def test_a_broken_installation_leaves_a_folder(tmp_path: Path) -> None:
    """pip renames what it could not remove."""
    found = read_project(venv(tmp_path, "~rl-0.22.1.dist-info", "trl-0.22.2.dist-info"))
    assert list(map(str, found.packages)) == ["trl==0.22.2"]
    assert list(map(str, found.unread)) == ["~rl-0.22.1.dist-info: the leftover of a broken installation"]


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ({"url": "file:///home/me/trl", "dir_info": {"editable": True}}, "trl @ file:///home/me/trl"),
        ({"url": "https://x.org/trl.whl", "archive_info": {}}, "trl @ https://x.org/trl.whl"),
        (
            {"url": "https://me:topsecretword@x.org/trl", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            "trl @ git+https://REDACTED@x.org/trl@abc",
        ),
    ],
)
def test_what_is_not_from_an_index(tmp_path: Path, content: object, shown: str) -> None:
    """Installers write direct_url.json for it."""
    folder = venv(tmp_path, "trl-0.22.2.dist-info")
    (folder / SITE / "trl-0.22.2.dist-info" / "direct_url.json").write_text(json.dumps(content))
    (package,) = read_project(folder).packages
    assert (str(package), package.version) == (shown, "0.22.2")


def test_an_environment_that_sees_the_packages_of_its_python(tmp_path: Path) -> None:
    """Its own come first."""
    base = tmp_path / "base"
    (base / SITE / "trl-0.1.dist-info").mkdir(parents=True)
    (base / SITE / "peft-0.17.1.dist-info").mkdir(parents=True)
    (tmp_path / "venv").mkdir()
    settings = f"home = {base}/bin\ninclude-system-site-packages = true\n"
    found = read_project(venv(tmp_path / "venv", "trl-0.22.2.dist-info", settings=settings))
    assert sorted(map(str, found.packages)) == ["peft==0.17.1", "trl==0.22.2"]


def test_a_wrapper_that_is_called_python(tmp_path: Path) -> None:
    """pyenv has such: to find its packages it would have to run."""
    shim = tmp_path / "shims" / "python3"
    shim.parent.mkdir()
    shim.write_text("#!/bin/sh\nexec pyenv exec python3\n")
    with pytest.raises(ProjectFileError) as raised:
        read_project(shim)
    assert str(raised.value) == (
        f"{shim}: its packages cannot be found without running it\n"
        "It is not in the `bin` of an environment: a link or a wrapper that starts another Python.\n"
        "Name the folder of the environment, or the output of `pip freeze`."
    )
