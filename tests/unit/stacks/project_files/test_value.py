"""What is read from a project: markers, sources, and how packages are written."""

from __future__ import annotations

from pathlib import Path

import pytest
from finetune_compat.stacks.project_files.value import Kind, Origin, Package, Place, Project, Source, holds, unread
from packaging.markers import Marker, UndefinedComparison
from project_builders import AT

SECRET = "https://me:hunter2hunter2@pkg.example/simple"
GIT = Source(Origin.GIT, "git+https://me:hunter2hunter2@x.org/trl@v1")


def test_an_address_is_shown_without_its_password() -> None:
    """Installers get the whole one."""
    source = Source(Origin.INDEX, SECRET)
    assert source.secret_address == SECRET
    assert source.address == "https://REDACTED@pkg.example/simple"
    assert "hunter2hunter2" not in repr(source)


def test_a_place_without_a_line_is_the_file() -> None:
    """An environment has no lines."""
    assert [str(Place("uv.lock", 3)), str(Place("uv.lock"))] == ["uv.lock:3", "uv.lock"]


def test_a_package_is_written_as_a_requirement() -> None:
    """One that is not from an index has its address in place of a version."""
    package = Package("trl", "==0.22.2", AT, version="0.22.2", extras=("peft", "vllm"), marker="os_name == 'nt'")
    assert str(package) == "trl[peft,vllm]==0.22.2"
    assert (package.requirement.extras, package.requirement.marker) == ({"peft", "vllm"}, None)
    assert str(Package("trl", "", AT, source=GIT)) == "trl @ git+https://REDACTED@x.org/trl@v1"
    assert str(Package("trl", "==1", AT, source=Source(Origin.INDEX, SECRET))) == "trl==1"


def test_what_is_not_read_has_no_secrets() -> None:
    """Neither in its name nor in the reason."""
    found = unread(SECRET, f"see {SECRET}", AT)
    assert str(found) == "https://REDACTED@pkg.example/simple: see https://REDACTED@pkg.example/simple"


@pytest.mark.parametrize(
    ("marker", "python", "answer"),
    [
        ('sys_platform == "linux" and platform_system == "Linux" and os_name == "posix"', "3.11", True),
        ('sys_platform == "win32" or sys_platform == "darwin"', "3.11", False),
        ('platform_machine == "x86_64"', "3.11", True),
        ('implementation_name == "cpython" and platform_python_implementation == "CPython"', "3.11", True),
        ('python_version < "3.10"', "3.9", True),
        ('python_version < "3.10"', "3.10", False),
        # The patch is the newest one, which no release number reaches.
        ('python_full_version >= "3.11.15"', "3.11", True),
        ('python_full_version >= "3.12"', "3.11", False),
        ('extra == "train"', "3.11", False),
    ],
)
def test_markers_hold_on_linux_with_the_newest_patch(marker: str, python: str, answer: bool) -> None:
    """Whatever machine this runs on: all locks are for that platform."""
    assert holds(Marker(marker), python) is answer


def test_extras_and_groups_are_those_that_are_selected() -> None:
    """PEP 751 has them as sets, PEP 508 has one extra."""
    assert holds(Marker('"train" in extras'), "3.11", extras=("train",))
    assert not holds(Marker('"train" in extras'), "3.11", groups=("train",))
    assert holds(Marker('"dev" in dependency_groups'), "3.11", groups=("test", "dev"))
    assert not holds(Marker('"dev" in dependency_groups'), "3.11")
    assert holds(Marker('extra == "train"'), "3.11", extras=("train",))


def test_a_comparison_without_an_order_is_an_error() -> None:
    """Names of systems have none."""
    with pytest.raises(UndefinedComparison):
        holds(Marker('platform_system ~= "Linux"'), "3.11")


def test_the_packages_of_a_python_are_those_whose_markers_hold() -> None:
    """One without a marker is always among them."""
    packages = (
        Package("trl", "", AT),
        Package("tomli", "", AT, marker='python_version < "3.11"'),
        Package("pywin32", "", AT, marker='sys_platform == "win32"'),
    )
    project = Project(Kind.REQUIREMENTS, Path("file"), packages)
    assert [item.name for item in project.on("3.10")] == ["trl", "tomli"]
    assert [item.name for item in project.on("3.11")] == ["trl"]
