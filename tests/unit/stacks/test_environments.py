"""Environments: installed by uv from small wheels built in the tests, and compared with their lock."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from finetune_compat.contract.errors import EnvironmentMismatch, ExitCode, InstallError, RegistryUnreachable
from finetune_compat.machine.places import Places, places
from finetune_compat.stacks import environments
from finetune_compat.stacks.environments import Environment, environment_of, made_environment, prepare_environment
from finetune_compat.stacks.hashed_pins import pins_of
from finetune_compat.stacks.locks import Lock, read_lock
from finetune_compat.stacks.matrix import read_matrix
from finetune_compat.stacks.supply import BasePython, Supply
from finetune_compat.stacks.uv_tool import Answer
from uv import find_uv_bin
from wheels import make_wheel

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
HEADER = "# Made by `nox -s lock`, from matrices/stacks.toml. Never edited by hand.\n"


@dataclass
class Place:
    """A virtual environment, a folder of wheels, and the lock over them."""

    root: Path
    hashes: dict[str, str] = field(default_factory=dict)

    @property
    def wheels(self) -> Path:
        return self.root / "wheels"

    @property
    def python(self) -> Path:
        return self.root / "env" / "bin" / "python"

    @property
    def site(self) -> Path:
        return self.root / "env" / "lib" / f"python{PYTHON}" / "site-packages"

    def wheel(self, name: str, version: str, *requires: str, broken: bool = False) -> None:
        """Offer a wheel."""
        self.hashes[f"{name}=={version}"] = make_wheel(self.wheels, name, version, requires, broken=broken)

    def lock(self, *requirements: str, python: str = PYTHON, **hashes: str) -> Lock:
        """Write a lock of the offered wheels; `hashes` replaces the right hashes."""
        known = {**self.hashes, **{name.replace("_", "=="): digest for name, digest in hashes.items()}}
        lines = "".join(f"{item} \\\n    --hash=sha256:{known[item]}\n" for item in requirements)
        path = self.root / "trl0.22-py311.txt"
        facts = {"python": python, "torch": "2.13.0", "packages": len(requirements)}
        header = HEADER + "".join(f"# {name}: {value}\n" for name, value in facts.items())
        path.write_text(header + lines)
        return read_lock(path)

    def prepare(self, lock: Lock, *, base: Path | None = None, supply: Supply | None = None) -> Environment:
        """Prepare the environment with torch 2.13.0, or with the torch of `base`."""
        lender = None if base is None else BasePython("/base/python", PYTHON, (str(base),))
        return prepare_environment(self.python, lock, "2.13.0", supply or Supply(base=lender))

    def installed(self) -> set[str]:
        """List the distributions in site-packages."""
        return {path.name.removesuffix(".dist-info") for path in self.site.glob("*.dist-info")}

    def uv(self, *arguments: str) -> None:
        """Change the environment without the harness."""
        subprocess.run(
            [find_uv_bin(), "pip", *arguments, "--python", str(self.python)], check=True, capture_output=True
        )


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_places: Callable[..., Places]) -> Place:
    """A new environment; uv sees only the wheels next to it. The matrix has no hashes of their torch."""
    in_places(matrices=tmp_path / "matrices")
    place = Place(tmp_path)
    place.wheel("torch", "2.13.0", "filelock", 'triton==3.0; sys_platform == "plan9"')
    place.wheel("filelock", "1.0")
    place.wheel("filelock", "2.0")
    place.wheel("trl", "0.22.2", "filelock")
    place.wheel("extra", "1.0")
    (tmp_path / "index").mkdir()
    monkeypatch.setenv("UV_DEFAULT_INDEX", (tmp_path / "index").as_uri())
    monkeypatch.setenv("UV_FIND_LINKS", str(place.wheels))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    subprocess.run([find_uv_bin(), "venv", "-q", "-p", sys.executable, str(tmp_path / "env")], check=True)
    return place


class TestInstalling:
    def test_an_environment_holds_the_lock_and_torch_and_nothing_else(self, place: Place) -> None:
        """Versions are the lock's, also if torch alone would have allowed a newer one."""
        lock = place.lock("trl==0.22.2", "filelock==1.0")
        assert place.prepare(lock) == Environment("2.13.0", base_torch=False, reused=False)
        assert place.installed() == {"trl-0.22.2", "filelock-1.0", "torch-2.13.0"}

    def test_a_valid_environment_is_reused(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        """uv is not called."""
        lock = place.lock("trl==0.22.2", "filelock==1.0")
        place.prepare(lock)
        monkeypatch.setattr(environments, "run_uv", None)
        assert place.prepare(lock).reused

    def test_another_lock_replaces_what_was_there(self, place: Place) -> None:
        """Versions change, and packages that the new lock lacks are removed."""
        place.prepare(place.lock("trl==0.22.2", "filelock==1.0", "extra==1.0"))
        assert not place.prepare(place.lock("trl==0.22.2", "filelock==2.0")).reused
        assert place.installed() == {"trl-0.22.2", "filelock-2.0", "torch-2.13.0"}

    def test_a_lock_with_other_hashes_is_another_lock(self, place: Place) -> None:
        """The same versions from other files are another environment: it is compared again."""
        place.wheel("trl", "0.22.2", "filelock")
        place.prepare(place.lock("trl==0.22.2", "filelock==1.0"))
        other = place.lock("filelock==1.0", "trl==0.22.2")
        assert not place.prepare(other).reused

    @pytest.mark.parametrize("change", [("uninstall", "trl"), ("install", "extra==1.0"), ("install", "filelock==2.0")])
    def test_a_changed_environment_is_repaired(self, place: Place, change: Sequence[str]) -> None:
        """Missing, extra and changed packages are found although the stamp still matches."""
        lock = place.lock("trl==0.22.2", "filelock==1.0")
        place.prepare(lock)
        place.uv(*change)
        assert not place.prepare(lock).reused
        assert place.installed() == {"trl-0.22.2", "filelock-1.0", "torch-2.13.0"}

    def test_an_edited_file_is_refused(self, place: Place) -> None:
        """The version is the lock's, and the file is not: through the installer's cache it is in other environments
        too.
        """
        lock = place.lock("trl==0.22.2", "filelock==1.0")
        place.prepare(lock)
        (place.site / "trl" / "__init__.py").write_text("edited")
        (place.site / "sitecustomize.py").touch()
        for _ in range(2):
            with pytest.raises(EnvironmentMismatch) as raised:
                place.prepare(lock)
            assert str(raised.value) == (
                f"{place.site}: the environment's files are not those of its wheels\n"
                "  edited: trl/__init__.py\n  in no package: sitecustomize.py\n"
                "What it would observe is not what these versions do. Files were changed after they were installed.\n"
                f"Delete {place.root}/env. Run `uv cache clean trl`. Then run the command again, which installs them "
                "again."
            )

    def test_what_torch_itself_needs_is_not_an_extra(self, place: Place) -> None:
        """The CUDA packages of a build are found through torch's metadata, including markers and extras."""
        place.wheel("torch", "2.13.0", "cuda-toolkit[cublas]")
        place.wheel("cuda-toolkit", "13.0", 'nvidia-cublas; extra == "cublas"', 'nvidia-other; extra == "other"')
        place.wheel("nvidia-cublas", "13.1")
        place.wheel("nvidia-other", "1.0")
        lock = place.lock("trl==0.22.2", "filelock==1.0")
        place.prepare(lock)
        assert place.installed() >= {"cuda_toolkit-13.0", "nvidia_cublas-13.1"}
        place.uv("install", "nvidia-other")
        assert not place.prepare(lock).reused
        assert "nvidia_other-1.0" not in place.installed()

    @pytest.mark.parametrize("lying", ["torch", "triton"])
    def test_a_published_torch_has_its_published_hash(self, place: Place, lying: str) -> None:
        """This holds for its CUDA parts too, which no lock has. What is not the published file is not installed."""
        place.wheel("triton", "3.7.1")
        place.wheel("torch", "2.13.0", "filelock", "triton")
        pinned = {name: place.hashes[name] for name in ("torch==2.13.0", "triton==3.7.1")}
        lock = place.lock("trl==0.22.2", "filelock==1.0")

        def pin(hashes: Mapping[str, str]) -> None:
            pins = places().torch_pins("2.13.0")
            pins.parent.mkdir(exist_ok=True)
            pins.write_text("".join(f"{name} --hash=sha256:{digest}\n" for name, digest in hashes.items()))

        pin({name: "0" * 64 if name.startswith(lying) else digest for name, digest in pinned.items()})
        with pytest.raises(InstallError) as raised:
            place.prepare(lock)
        assert raised.value.what.startswith("a downloaded file is not the one that was locked: ")
        assert lying in raised.value.what
        assert not {name for name in place.installed() if name.startswith(("torch-", "triton-"))}
        pin(pinned)
        assert place.prepare(lock) == Environment("2.13.0", base_torch=False, reused=False)

    def test_a_local_build_of_torch_has_no_published_hash(self, place: Place) -> None:
        """It is installed, and the session says so."""
        pins = places().torch_pins("2.13.0")
        pins.parent.mkdir()
        pins.write_text(f"torch==2.13.0 --hash=sha256:{'0' * 64}\n")
        place.wheel("torch", "2.13.0+cpu", "filelock")
        found = place.prepare(place.lock("trl==0.22.2", "filelock==1.0"))
        assert (found.torch, found.note) == ("2.13.0+cpu", " (not on PyPI: not compared with a published hash)")

    def test_the_matrix_has_the_hashes_of_its_torch_and_of_all_its_cuda_parts(self) -> None:
        matrix = read_matrix()
        lines = places().torch_pins(matrix.torch).read_text().splitlines()
        pins = {pin.name: pin.version for pin in pins_of(line for line in lines if not line.startswith("#"))}
        assert pins["torch"] == matrix.torch
        platform = tomllib.loads(places().stacks.read_text())["torch"]["platform"]
        assert set(platform) <= set(pins)

    def test_a_local_build_of_torch_is_the_wanted_torch(self, place: Place) -> None:
        """`2.13.0+cpu` is 2.13.0, and is reported with its build."""
        (place.wheels / "torch-2.13.0-py3-none-any.whl").unlink()
        place.wheel("torch", "2.13.0+cpu", "filelock")
        environment = place.prepare(place.lock("trl==0.22.2", "filelock==1.0"))
        assert (environment.torch, environment.base_torch) == ("2.13.0+cpu", False)

    def test_the_installers_output_is_logged(self, place: Place) -> None:
        """The log is in the environment."""
        place.prepare(place.lock("trl==0.22.2", "filelock==1.0"))
        assert "+ trl==0.22.2" in (place.root / "env" / "compat-install.log").read_text()

    def test_an_interrupted_installation_leaves_no_stamp(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        """The next session installs again."""
        lock = place.lock("trl==0.22.2", "filelock==1.0")
        place.prepare(lock)
        monkeypatch.setattr(environments, "run_uv", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            place.prepare(place.lock("trl==0.22.2", "filelock==2.0"))
        assert not (place.root / "env" / "compat-stamp.json").exists()

    def test_an_empty_stamp_is_no_stamp(self, place: Place) -> None:
        """It is no error either."""
        lock = place.lock("trl==0.22.2", "filelock==1.0")
        place.prepare(lock)
        (place.root / "env" / "compat-stamp.json").write_text("{}")
        assert not place.prepare(lock).reused


def _interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


class TestOutsideNox:
    def test_it_is_made_on_first_use_and_then_reused(self, place: Place, tmp_path: Path) -> None:
        """It is named after its lock, has the lock's Python and packages and torch, and is verified before
        every use.
        """
        lock = place.lock("trl==0.22.2", "filelock==1.0")
        python, made = environment_of(lock, tmp_path / "envs")
        assert python == tmp_path / "envs" / "trl0.22-py311" / "bin" / "python"
        assert made == Environment("2.13.0", base_torch=False, reused=False)
        code = "import sys, trl; print(*sys.version_info[:2], trl.__version__)"
        said = subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True).stdout
        assert said.split() == [*PYTHON.split("."), "0.22.2"]
        assert environment_of(lock, tmp_path / "envs") == (python, Environment("2.13.0", False, True))
        place.uv("install", "--target", str(next(python.parent.parent.glob("lib/*/site-packages"))), "extra==1.0")
        assert not environment_of(lock, tmp_path / "envs")[1].reused

    def test_a_look_at_results_makes_and_compares_nothing(self, place: Place, tmp_path: Path) -> None:
        """An edited file is for the next use to refuse. Another lock is another environment."""
        envs, lock = tmp_path / "envs", place.lock("trl==0.22.2", "filelock==1.0")
        assert made_environment(lock, envs) is None
        assert not envs.exists()
        python, made = environment_of(lock, envs)
        next(python.parent.parent.glob("lib/*/site-packages/trl/__init__.py")).write_text("edited = True")
        assert made_environment(lock, envs) == (python, replace(made, reused=True))
        assert made_environment(replace(lock, sha256="0" * 64), envs) is None

    def test_one_whose_python_is_missing_is_made_again(self, place: Place, tmp_path: Path) -> None:
        """The user does not have to delete it."""
        lock = place.lock("trl==0.22.2", "filelock==1.0")
        python, _ = environment_of(lock, tmp_path / "envs")
        python.unlink()
        python.symlink_to("/nowhere/python")
        assert environment_of(lock, tmp_path / "envs") == (python, Environment("2.13.0", False, False))

    def test_two_commands_at_once_make_it_once(self, place: Place, tmp_path: Path) -> None:
        """The second waits and finds a valid environment."""
        lock = place.lock("trl==0.22.2", "filelock==1.0")
        with ThreadPoolExecutor(2) as pool:
            made = list(pool.map(lambda _: environment_of(lock, tmp_path / "envs")[1].reused, range(2)))
        assert sorted(made) == [False, True]

    def test_a_missing_python_is_not_replaced_by_another(self, place: Place, tmp_path: Path) -> None:
        """It is not downloaded either: the Python of a stack is part of its answer."""
        with pytest.raises(InstallError) as caught:
            environment_of(place.lock("trl==0.22.2", python="3.99"), tmp_path / "envs")
        assert caught.value.exit_code is ExitCode.ENVIRONMENT
        assert caught.value.what.startswith("uv could not make an environment with Python 3.99: ")
        assert (caught.value.where, caught.value.todo) == (
            "trl0.22-py311",
            "Install Python 3.99, or name a stack that is locked for an installed Python (`compat stacks`).",
        )


class TestBaseTorch:
    @pytest.fixture
    def base(self, place: Place) -> Path:
        """The site-packages of a Python with torch and many other packages."""
        place.wheel("torch", "2.11.0+cu130", "filelock", "triton")
        place.wheel("triton", "3.6")
        place.wheel("transformers", "5.17.0")
        base = place.root / "base"
        wheels = ["torch==2.11.0+cu130", "triton", "filelock==2.0", "transformers"]
        place.uv("install", "--target", str(base), *wheels)
        return base

    def test_the_torch_of_another_python_is_borrowed_with_what_only_it_needs(self, place: Place, base: Path) -> None:
        """The environment imports it, keeps its own versions of other packages, and sees nothing else of the base."""
        environment = place.prepare(place.lock("trl==0.22.2", "filelock==1.0"), base=base)
        assert (environment.torch, environment.base_torch) == ("2.11.0+cu130", True)
        assert self.imported(place, "torch") == "2.11.0+cu130"
        assert self.imported(place, "triton") == "3.6"
        assert self.imported(place, "filelock") == "1.0"
        assert self.imported(place, "transformers") == ""

    def test_a_borrowed_torch_of_the_wanted_version_is_not_another_torch(self, place: Place, base: Path) -> None:
        """Observations mark only another version."""
        place.uv("install", "--target", str(base), "torch==2.13.0")
        assert not place.prepare(place.lock("trl==0.22.2", "filelock==1.0"), base=base).base_torch

    def test_borrowing_replaces_an_installed_torch_and_returning_leaves_the_base_unchanged(
        self, place: Place, base: Path
    ) -> None:
        """Both directions work; the base's files are never removed through the links."""
        lock = place.lock("trl==0.22.2", "filelock==1.0")
        before = sorted(path.relative_to(base) for path in base.rglob("*"))
        for lender, version in ((None, "2.13.0"), (base, "2.11.0+cu130"), (None, "2.13.0")):
            assert place.prepare(lock, base=lender).torch == version
            assert self.imported(place, "torch") == version
            assert place.prepare(lock, base=lender).reused
        assert sorted(path.relative_to(base) for path in base.rglob("*") if "__pycache__" not in path.parts) == before

    def test_another_base_is_another_environment(self, place: Place, base: Path, tmp_path: Path) -> None:
        """Its links are replaced by links to the new Python."""
        lock = place.lock("trl==0.22.2", "filelock==1.0")
        place.prepare(lock, base=base)
        other = tmp_path / "other"
        place.uv("install", "--target", str(other), "torch==2.13.0", "filelock==2.0")
        supply = Supply(base=BasePython("/other/python", PYTHON, (str(other),)))
        assert place.prepare(lock, supply=supply) == Environment("2.13.0", base_torch=False, reused=False)
        assert self.imported(place, "torch") == "2.13.0"

    def test_a_base_without_torch_is_refused(self, place: Place, tmp_path: Path) -> None:
        """The message names the Python."""
        with pytest.raises(InstallError) as caught:
            place.prepare(place.lock("trl==0.22.2", "filelock==1.0"), base=tmp_path / "nothing")
        assert str(caught.value) == (
            "--base-python /base/python: there is no torch in it\n"
            "The environment uses the torch of this Python.\n"
            "Name a Python in which `import torch` works."
        )

    def test_a_base_of_another_version_is_refused(self, place: Place, base: Path) -> None:
        """Nothing of it is linked."""
        supply = Supply(base=BasePython("/base/python", "3.8", (str(base),)))
        with pytest.raises(InstallError) as caught:
            place.prepare(place.lock("trl==0.22.2", "filelock==1.0"), supply=supply)
        assert str(caught.value) == (
            f"--base-python /base/python: this is Python 3.8, but trl0.22-py311 runs on Python {PYTHON}\n"
            "A build of torch works with one Python version.\n"
            f"Name a Python {PYTHON} that has torch, or a stack that is locked for Python 3.8 (`compat stacks`)."
        )
        assert not (place.root / "env" / "lent-torch").exists()

    @staticmethod
    def imported(place: Place, module: str) -> str:
        """Return the version of `module` that the environment imports, or nothing."""
        code = f"import {module}; print({module}.__version__)"
        command = [str(place.python), "-B", "-c", code]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


class TestOffline:
    @pytest.fixture
    def closed(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
        """There is no registry and no link: only packages of the wheelhouse are available."""
        monkeypatch.delenv("UV_FIND_LINKS")
        monkeypatch.setenv("PIP_FIND_LINKS", "")
        monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
        return place

    def test_the_wheelhouse_is_enough(self, closed: Place) -> None:
        """It has torch too; the registry, which does not answer, is not used."""
        supply = Supply(offline=True, wheelhouse=closed.wheels)
        environment = closed.prepare(closed.lock("trl==0.22.2", "filelock==1.0"), supply=supply)
        assert environment == Environment("2.13.0", base_torch=False, reused=False)
        assert closed.installed() == {"trl-0.22.2", "filelock-1.0", "torch-2.13.0"}

    def test_a_wheel_that_is_not_in_the_wheelhouse_is_named(self, closed: Place) -> None:
        """This happens before anything is installed; another version of it does not count."""
        (closed.wheels / "trl-0.22.2-py3-none-any.whl").unlink()
        (closed.wheels / "filelock-1.0-py3-none-any.whl").unlink()
        with pytest.raises(InstallError) as caught:
            closed.prepare(
                closed.lock("trl==0.22.2", "filelock==1.0", "extra==1.0"),
                supply=Supply(offline=True, wheelhouse=closed.wheels),
            )
        assert caught.value.exit_code is ExitCode.ENVIRONMENT
        assert str(caught.value) == (
            f"trl0.22-py311: --wheelhouse {closed.wheels}: the wheelhouse lacks 2 of the lock's 3 wheels: "
            "trl 0.22.2, filelock 1.0\n"
            "The bundle was made for other stacks or for another device (--device), or it is incomplete.\n"
            "`python3 start.py` in the bundle lists what is missing. On a machine with a registry, `compat "
            "bundle trl0.22` packs this stack."
        )
        assert closed.installed() == set()

    def test_a_bundle_without_torch_has_a_message_that_names_one(self, closed: Place) -> None:
        """The message is not the resolver's."""
        (closed.wheels / "torch-2.13.0-py3-none-any.whl").unlink()
        with pytest.raises(InstallError) as caught:
            closed.prepare(
                closed.lock("trl==0.22.2", "filelock==1.0"), supply=Supply(offline=True, wheelhouse=closed.wheels)
            )
        log = closed.root / "env" / "compat-install.log"
        assert str(caught.value) == (
            "trl0.22-py311: there is no torch 2.13.0 to install\n"
            f"--offline uses no registry, and a bundle does not contain torch. uv's output is in {log}.\n"
            "Take the torch of a Python on this machine: --base-python PY."
        )

    def test_a_wheel_in_the_wheelhouse_with_another_hash_is_not_installed(self, closed: Place) -> None:
        """A matching name is not enough."""
        with pytest.raises(InstallError) as caught:
            closed.prepare(
                closed.lock("trl==0.22.2", **{"trl_0.22.2": "b" * 64}),
                supply=Supply(offline=True, wheelhouse=closed.wheels),
            )
        assert caught.value.what.startswith("a downloaded file is not the one that was locked: ")


class TestRefusal:
    def refusal(self, place: Place, lock: Lock) -> InstallError:
        """Return the error of an installation."""
        with pytest.raises(InstallError) as caught:
            place.prepare(lock)
        return caught.value

    def test_a_missing_interpreter_is_named(self, place: Place) -> None:
        """A link to a removed Python counts as missing."""
        lock = place.lock("trl==0.22.2", "filelock==1.0")
        place.python.unlink()
        place.python.symlink_to("/nowhere/python")
        error = self.refusal(place, lock)
        assert error.exit_code is ExitCode.ENVIRONMENT
        assert str(error) == (
            f"{place.python}: its Python interpreter is missing\n"
            "The interpreter that this environment was made with was removed or moved.\n"
            "Delete the environment's folder. Then run the session again, which makes the environment."
        )

    def test_a_file_other_than_the_locked_one_is_not_installed(self, place: Place) -> None:
        """A hash mismatch has its own message, because it may be an attack."""
        error = self.refusal(place, place.lock("trl==0.22.2", **{"trl_0.22.2": "b" * 64}))
        assert error.what.startswith("a downloaded file is not the one that was locked: ")
        assert "Hash mismatch for `trl==0.22.2`" in error.what
        assert error.where == "trl0.22-py311"
        assert "trl-0.22.2" not in place.installed()

    def test_the_log_of_an_installation_holds_no_secret(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        """The log stays next to the environment, and messages tell users to read and send it."""
        told = "Looking into https://user:Zq7xW2vKp9@example.com/simple"
        original = environments.run_uv

        def run_uv(arguments: Sequence[str], **options: Any) -> Answer:
            return replace(original(arguments, **options), output=told)

        monkeypatch.setattr(environments, "run_uv", run_uv)
        place.prepare(place.lock("trl==0.22.2"))
        log = (place.root / "env" / "compat-install.log").read_text()
        assert "https://REDACTED@example.com/simple" in log and "Zq7xW2vKp9" not in log

    def test_a_package_that_fails_to_build_is_named(self, place: Place) -> None:
        """The message names the package; the compiler's output is in the log."""
        place.wheel("needs-compiler", "1.0", broken=True)
        error = self.refusal(place, place.lock("needs-compiler==1.0"))
        assert error.what.startswith("a package fails to build: Failed to build `needs-compiler==1.0`")
        log = place.root / "env" / "compat-install.log"
        assert error.meaning == (
            f"There is no wheel for this Python and platform, and the source does not build here. "
            f"uv's output is in {log}."
        )
        assert "no compiler" in log.read_text()

    def test_an_unreachable_registry_is_an_infrastructure_failure(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nothing is known about the versions, and the exit code says so."""
        lock = place.lock("trl==0.22.2")
        for path in place.wheels.iterdir():
            path.unlink()
        monkeypatch.setenv("UV_OFFLINE", "1")
        error = self.refusal(place, lock)
        assert isinstance(error, RegistryUnreachable)
        assert error.exit_code is ExitCode.COULD_NOT_TELL
        assert error.what.startswith("the package registry is out of reach: ")

    def test_a_torch_that_is_not_offered_is_reported_as_missing(self, place: Place) -> None:
        """The message has uv's reason."""
        (place.wheels / "torch-2.13.0-py3-none-any.whl").unlink()
        error = self.refusal(place, place.lock("trl==0.22.2", "filelock==1.0"))
        assert error.what.startswith("uv could not install the lock: No solution found when resolving dependencies")

    def test_an_environment_that_cannot_be_repaired_is_refused(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Every kind of difference is named with both versions, up to a number of packages."""
        lock = place.lock("trl==0.22.2", "filelock==1.0")
        place.prepare(lock)
        for number in range(10):
            place.wheel(f"extra{number}", "1.0")
        place.uv("install", "filelock==2.0", *(f"extra{number}" for number in range(10)))
        place.uv("uninstall", "trl")
        monkeypatch.setattr(environments, "_uv", lambda *_: None)
        with pytest.raises(EnvironmentMismatch) as caught:
            place.prepare(lock)
        assert caught.value.exit_code is ExitCode.ENVIRONMENT
        assert str(caught.value) == (
            "trl0.22-py311: the environment differs from its lock\n"
            "  missing: trl\n"
            "  other: filelock 2.0 (locked: 1.0)\n"
            "  extra: extra0, extra1, extra2, extra3, extra4, extra5, extra6, extra7 and 2 more\n"
            "Another program installs into this environment, or an installation was interrupted.\n"
            f"Delete {place.root / 'env'} and run the session again."
        )
