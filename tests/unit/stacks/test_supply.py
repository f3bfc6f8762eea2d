"""Sources of packages: the options, a folder of wheels, another Python."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from finetune_compat.contract.errors import CompatError, ExitCode, InstallError
from finetune_compat.stacks.supply import Supply, ask_base_python, supply_of
from wheels import make_wheel

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


class TestOptions:
    def test_without_any_it_is_the_registry(self) -> None:
        """Most machines use it."""
        assert supply_of(where="here") == Supply()

    def test_an_unpacked_bundle_is_a_wheelhouse(self, tmp_path: Path) -> None:
        """It has its own file name; a Python is asked once for its import path."""
        make_wheel(tmp_path / "wheels", "trl", "0.22.2")
        supply = supply_of(where="here", offline=True, wheelhouse=tmp_path, base_python=sys.executable)
        assert (supply.offline, supply.wheelhouse) == (True, tmp_path / "wheels")
        assert supply.base is not None
        assert (supply.base.executable, supply.base.version) == (sys.executable, HERE)

    def test_a_folder_without_wheels_is_refused(self, tmp_path: Path) -> None:
        """A missing folder is refused too, before anything is installed."""
        for folder, problem in ((tmp_path, "there is no wheel in it"), (tmp_path / "x", "there is no such folder")):
            with pytest.raises(CompatError) as caught:
                supply_of(where="here", wheelhouse=folder)
            assert caught.value.exit_code is ExitCode.BAD_INPUT
            assert str(caught.value) == (
                f"--wheelhouse {folder}: {problem}\n"
                "--wheelhouse takes an unpacked bundle, or any folder of wheels.\n"
                "Unpack every part of the bundle, and name the folder that they unpack to."
            )

    def test_one_python_provides_its_torch(self) -> None:
        """Two at once are refused."""
        with pytest.raises(CompatError) as caught:
            supply_of(where="here", base_python="python3", base_torch=True)
        assert caught.value.exit_code is ExitCode.BAD_INPUT
        assert str(caught.value).startswith("here: --base-torch and --base-python exclude each other\n")


class TestLacking:
    def test_only_a_closed_wheelhouse_can_lack_anything(self, tmp_path: Path) -> None:
        """Otherwise the registry has the rest. Names and versions are compared as packaging does."""
        make_wheel(tmp_path, "ruamel-yaml", "1.0")
        (tmp_path / "notes.whl").touch()
        wanted = {"ruamel-yaml": "1.0.0", "trl": "0.22.2"}
        assert Supply(offline=True, wheelhouse=tmp_path).lacking(wanted) == ("trl 0.22.2",)
        assert Supply(wheelhouse=tmp_path).lacking(wanted) == ()
        assert Supply(offline=True).lacking(wanted) == ()

    def test_the_wheelhouse_comes_before_other_links(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A CPU build of torch in pip's configuration is still found."""
        monkeypatch.setenv("UV_FIND_LINKS", "/srv/wheels")
        assert Supply(wheelhouse=tmp_path).environ()["UV_FIND_LINKS"] == f"{tmp_path},/srv/wheels"
        assert Supply().environ()["UV_FIND_LINKS"] == "/srv/wheels"


class TestBasePython:
    def test_a_python_reports_its_import_path(self) -> None:
        """It is given by name or path, and queried without an empty entry for the current folder."""
        found = ask_base_python(sys.executable)
        assert found.version == HERE
        assert str(Path(pytest.__file__).parent.parent) in found.path and "" not in found.path

    @pytest.mark.parametrize(
        ("code", "problem"),
        [
            (None, "there is no such program"),
            ("exit 1", "it is not a working Python: stderr is empty"),
            ("echo no libpython >&2; exit 127", "it is not a working Python: no libpython"),
        ],
    )
    def test_a_python_that_does_not_run_is_refused(self, tmp_path: Path, code: str | None, problem: str) -> None:
        """The message has the last line of its output."""
        program = tmp_path / "python"
        if code is not None:
            program.write_text(f"#!/bin/sh\n{code}\n")
            program.chmod(0o755)
        with pytest.raises(InstallError) as caught:
            ask_base_python(str(program))
        assert str(caught.value) == (
            f"--base-python {program}: {problem}\n"
            "--base-python uses the torch of that Python, which must be on this machine.\n"
            "Name a Python in which `import torch` works (example: /usr/bin/python3)."
        )
