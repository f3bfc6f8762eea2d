"""The places of files in a checkout and in an installation."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
from finetune_compat.contract.errors import CompatError
from finetune_compat.machine import places as module
from finetune_compat.machine.places import PACKAGE, of_checkout, of_wheel, places, write_runs_to


@pytest.fixture(autouse=True)
def _as_a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(module.OUT, "")  # so that the value is removed after the test
    monkeypatch.delenv(module.STORE)


class TestCheckout:
    def test_it_has_its_own_directories(self) -> None:
        """These tests run in a checkout."""
        found = places()
        assert found.checkout == PACKAGE.parents[1]
        assert found.stacks.is_file() and found.ledger.is_file() and found.policy.is_file()
        assert found.runs == found.checkout / "reports" / "runs"
        assert (found.environments, found.nox) == (found.checkout / ".envs", found.checkout / ".nox")
        assert found.noxfile == found.checkout / "noxfile.py"
        assert found.baselines.is_dir() and found.learning.is_dir() and found.faults.is_dir()

    def test_a_message_names_a_path_inside_it_relative_to_it(self) -> None:
        """Other paths are named in full."""
        found = places()
        assert found.shown(found.stacks) == "matrices/stacks.toml"
        assert found.shown(Path("/elsewhere/stacks.toml")) == "/elsewhere/stacks.toml"


class TestWheel:
    def test_it_uses_the_cache_directory_and_the_current_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nothing is written into the installed package."""
        monkeypatch.chdir(tmp_path)
        found, cache = of_wheel(), tmp_path / "cache" / "finetune-compat"
        assert (found.environments, found.nox, found.store) == (cache / "envs", cache / "nox", cache / "store")
        assert found.runs == tmp_path / "compat-reports"
        assert found.matrices == PACKAGE / "data" / "matrices"
        assert found.noxfile.is_file()

    def test_the_error_says_that_a_checkout_is_needed(self) -> None:
        """All such errors have the same form."""
        with pytest.raises(CompatError) as raised:
            of_wheel().the_checkout("compat bundle")
        assert str(raised.value) == (
            f"{PACKAGE}: compat bundle needs a checkout of finetune-compat\n"
            "This package is installed from a wheel, which does not contain the project's own tests, measurements and "
            "git history.\n"
            "Clone the project, install it with `pip install -e '.[host]'`, and run the command there."
        )
        with pytest.raises(CompatError, match=r"committed evidence \(reports/\) needs a checkout"):
            _ = of_wheel().baselines


@pytest.mark.parametrize("of", [lambda: of_checkout(PACKAGE.parents[1]), of_wheel], ids=["checkout", "wheel"])
def test_variables_name_other_directories(of: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """COMPAT_OUT and `--out` set the directory of runs, COMPAT_STORE the store."""
    assert callable(of)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(module.STORE, str(tmp_path / "s"))
    write_runs_to(None)
    assert tmp_path / "runs" != of().runs
    write_runs_to(Path("runs"))
    assert (of().runs, of().store) == (tmp_path / "runs", tmp_path / "s")


@pytest.mark.parametrize("of", [lambda: of_checkout(PACKAGE.parents[1]), of_wheel], ids=["checkout", "wheel"])
def test_another_process_can_import_this_package_and_nothing_else(of: object) -> None:
    """Neither the project's tests nor the packages of the commands, which are in the same site-packages, are
    importable.
    """
    assert callable(of)
    for _ in range(2):  # the second call finds an existing directory
        path = of().import_path()
    assert [found.name for found in pkgutil.iter_modules([str(path)])] == ["finetune_compat"]
    code = "import finetune_compat.cell.fixtures as f; print(f.__file__)"
    # A stack's environment does not have the packages of this one.
    command = [sys.executable, "-S", "-P", "-c", code.replace(".cell.fixtures", ".contract.records")]
    done = subprocess.run(command, env={"PYTHONPATH": str(path)}, capture_output=True, text=True, check=True)
    assert done.stdout == f"{path}/finetune_compat/contract/records.py\n"


def test_a_watched_script_sees_no_directory_of_this_project(tmp_path: Path) -> None:
    """The directory of `sitecustomize` is removed from the path, also if the path has a link to it."""
    site = of_wheel().import_path() / "finetune_compat" / "cell" / "site"
    assert [found.name for found in pkgutil.iter_modules([str(site)])] == ["sitecustomize"]
    command = [sys.executable, "-c", "import sys; print([p for p in sys.path if 'finetune_compat' in p])"]
    done = subprocess.run(command, env={"PYTHONPATH": str(site)}, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
