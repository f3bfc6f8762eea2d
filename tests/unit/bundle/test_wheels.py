"""Wheels for another machine: which ones fit, which are cached, and the errors of a registry that fails."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from finetune_compat.bundle.wheels import Target, gather
from finetune_compat.contract.errors import ExitCode, InstallError, LockError, RegistryUnreachable
from finetune_compat.machine.places import places
from finetune_compat.stacks.hashed_pins import Pin, pins_of
from finetune_compat.stacks.locks import read_lock
from packaging.tags import Tag
from wheels import make_wheel

LOCKS = places().locks

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
TARGET = Target(HERE, "x86_64-manylinux_2_28")


class Registry:
    """A folder in which pip finds wheels, and the only one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def pin(self, name: str, version: str, digest: str = "") -> Pin:
        """Offer a wheel and pin it to its hash, or to another hash."""
        made = make_wheel(self.folder, name, version)
        return Pin(name, version, frozenset({digest or made}))


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """pip is configured to use the registry, as a user does it."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "registry"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return Registry(tmp_path / "registry")


def silent(_: str) -> None:
    """Ignores progress in tests that are not about it."""


class TestTarget:
    def test_it_takes_what_runs_on_its_glibc_and_its_python(self) -> None:
        """Older glibcs by either name, the stable ABI of older Pythons and universal wheels fit; nothing newer does."""
        tags = Target("3.12", "x86_64-manylinux_2_28").tags
        fitting = (
            "cp312-cp312-manylinux_2_28_x86_64",
            "cp312-cp312-manylinux2014_x86_64",
            "cp39-abi3-manylinux1_x86_64",
        )
        for text in (*fitting, "py3-none-manylinux_2_24_x86_64", "py3-none-any", "cp312-none-any"):
            assert Tag(*text.split("-")) in tags
        for text in (
            "cp311-cp311-manylinux_2_28_x86_64",
            "cp312-cp312-manylinux_2_34_x86_64",
            "cp313-abi3-manylinux1_x86_64",
        ):
            assert Tag(*text.split("-")) not in tags
        assert Tag("cp312", "cp312", "manylinux_2_28_aarch64") not in tags

    def test_another_platform_is_refused(self) -> None:
        """It is refused instead of packed with wheels that may not run."""
        with pytest.raises(LockError) as caught:
            _ = Target("3.12", "macos").tags
        assert str(caught.value) == (
            "matrices/stacks.toml: resolve.platform: no wheels can be selected for the platform 'macos'\n"
            "Bundles are for Linux with glibc, for example x86_64-manylinux_2_28.\n"
            "Set such a platform, and make the locks again."
        )


class TestPins:
    @pytest.mark.parametrize("path", sorted(LOCKS.glob("trl0.22-*.txt")), ids=lambda path: path.stem)
    def test_every_package_of_a_lock_has_its_version_and_its_hashes(self, path: Path) -> None:
        """The versions and hashes come from the reader of locks, which refuses unknown lines."""
        text = path.read_text()
        pins = pins_of(line for line in text.splitlines() if not line.startswith("#"))
        assert {pin.name: pin.version for pin in pins} == read_lock(path).requirements
        assert sum(len(pin.hashes) for pin in pins) == text.count("--hash=sha256:")

    def test_a_marker_is_not_part_of_the_version(self) -> None:
        """uv writes markers for packages that only some machines need."""
        (pin,) = pins_of(
            ["colorama==0.4.6 ; sys_platform == 'win32' \\", f"    --hash=sha256:{'a' * 64}"], markers=True
        )
        assert pin == Pin("colorama", "0.4.6", frozenset({"a" * 64}))


class TestGathering:
    def test_a_missing_wheel_is_fetched_and_reported(self, registry: Registry, tmp_path: Path) -> None:
        """Progress is one counted line per package."""
        said: list[str] = []
        pins = [registry.pin("trl", "0.22.2"), registry.pin("peft", "0.17.1")]
        found = gather(pins, TARGET, tmp_path / "here", "trl0.22-py311", said.append)
        assert {path.name for path in found} == {"trl-0.22.2-py3-none-any.whl", "peft-0.17.1-py3-none-any.whl"}
        assert [line.partition("] ")[0] for line in said] == ["[1/2", "[2/2"]
        assert "trl" in said[0] and "peft" in said[1]

    def test_what_is_there_is_not_fetched(self, registry: Registry, tmp_path: Path) -> None:
        """The registry may be unreachable."""
        pin = registry.pin("trl", "0.22.2")
        gather([pin], TARGET, tmp_path / "here", "", silent)
        (registry.folder / "trl-0.22.2-py3-none-any.whl").unlink()
        said: list[str] = []
        assert len(gather([pin], TARGET, tmp_path / "here", "", said.append)) == 1
        assert said == []

    def test_a_file_that_is_damaged_is_fetched_again(self, registry: Registry, tmp_path: Path) -> None:
        """The file name alone does not prove the content."""
        pin = registry.pin("trl", "0.22.2")
        (path,) = gather([pin], TARGET, tmp_path / "here", "", silent)
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        gather([pin], TARGET, tmp_path / "here", "", silent)
        assert path.read_bytes() == whole

    def test_a_file_with_another_hash_is_not_taken(self, registry: Registry, tmp_path: Path) -> None:
        """A hash mismatch may be an attack: it has its own message, and the file is removed."""
        pins = [registry.pin("peft", "0.17.1"), registry.pin("trl", "0.22.2", "b" * 64)]
        with pytest.raises(InstallError) as caught:
            gather(pins, TARGET, tmp_path / "here", "trl0.22-py311", silent)
        assert caught.value.exit_code is ExitCode.ENVIRONMENT
        assert str(caught.value) == (
            "trl0.22-py311: the registry's file of trl==0.22.2 has another hash than the lock\n"
            "A mirror serves another build, or the file was replaced after the lock was made.\n"
            "Do not use this file. Compare it with the original registry's. If it is right, make the lock again."
        )
        assert list((tmp_path / "here").iterdir()) == []

    def test_a_package_without_a_wheel_for_the_target_is_named(self, registry: Registry, tmp_path: Path) -> None:
        """Sources are not built for another machine."""
        with pytest.raises(InstallError) as caught:
            gather([Pin("trl", "9.9", frozenset({"a" * 64}))], TARGET, tmp_path / "here", "trl9.9-py311", silent)
        assert str(caught.value) == (
            f"trl9.9-py311: the registry has no wheel of trl==9.9 for Python {HERE} on x86_64-manylinux_2_28\n"
            "It was removed, or a mirror lacks it. Nothing is built from source, because the target differs.\n"
            "Use the registry of the lock, or make the lock again."
        )

    def test_an_unreachable_registry_is_an_infrastructure_failure(
        self, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The mirror set for uv is also used for pip."""
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.setenv("PIP_RETRIES", "1")
        monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
        with pytest.raises(RegistryUnreachable) as caught:
            gather([Pin("trl", "9.9", frozenset({"a" * 64}))], TARGET, tmp_path / "here", "trl9.9-py311", silent)
        assert caught.value.exit_code is ExitCode.COULD_NOT_TELL
        assert caught.value.what.startswith("the package registry is out of reach: ")
        assert caught.value.todo == "Check the connection and run the command again. Downloaded wheels are reused."
        assert list((tmp_path / "here").iterdir()) == []
