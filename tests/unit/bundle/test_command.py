"""A bundle made, copied and started with the real git, pip, uv and venv, from a small checkout and small wheels."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from finetune_compat.bundle import command
from finetune_compat.bundle.command import BundleRequest, asked_for, make
from finetune_compat.contract.errors import (
    CompatError,
    ExitCode,
    InstallError,
    LockError,
    RegistryUnreachable,
    UnknownName,
)
from finetune_compat.contract.records import DeviceKind
from finetune_compat.stacks.locks import Unsolvable, read_lock
from finetune_compat.stacks.matrix import parse_matrix, read_matrix
from stack_builders import NO_SOLUTION, document, row
from wheels import make_wheel

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
OTHER = "3.8"
MATRIX = parse_matrix(document(row(pythons=[HERE])))
STACK = MATRIX.stacks[0]
HEADER = "# Made by `nox -s lock`, from matrices/stacks.toml. Never edited by hand.\n"
LIMIT = 60_000
"""Size limit of a part. The checkout here has two files of 30,000 bytes, which do not fit in one part."""


@dataclass
class Workshop:
    """A checkout, a registry that is a folder, and the target folder of the bundle."""

    root: Path
    said: list[str] = field(default_factory=list)

    @property
    def checkout(self) -> Path:
        return self.root / "checkout"

    @property
    def registry(self) -> Path:
        return self.root / "registry"

    @property
    def out(self) -> Path:
        return self.root / "out"

    @property
    def target(self) -> Path:
        """The folder that the parts unpack to."""
        return self.root / "target" / "compat-bundle"

    @property
    def lock(self) -> Path:
        return self.checkout / "matrices" / "locks" / f"{STACK.on(HERE)}.txt"

    def make(self, limit: int | None = LIMIT) -> list[Path]:
        """Make the bundle."""
        asked = BundleRequest((STACK,), HERE, DeviceKind.CPU, limit)
        return make(MATRIX, asked, self.out, self.said.append, self.checkout)

    def unpack(self, parts: list[Path]) -> None:
        """Unpack these parts, as `tar -xf` does."""
        for part in parts:
            with tarfile.open(part) as tar:
                tar.extractall(self.root / "target", filter="data")

    def start(self) -> subprocess.CompletedProcess[str]:
        """Run `python3 start.py` with a Python that does not see these tests."""
        environ = {"PATH": os.defpath, "HOME": str(self.root), "PIP_INDEX_URL": "http://127.0.0.1:9/simple"}
        command = [sys.executable, str(self.target / "start.py")]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environ)

    def left(self) -> list[str]:
        """List the folder in which the bundle is made."""
        return sorted(
            path.name for path in self.root.iterdir() if path.name not in {"checkout", "registry", "cache", "x"}
        )


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """uv and pip find only the wheels of the registry."""
    made = Workshop(tmp_path)
    digest = make_wheel(made.registry, "trl", "0.22.2")
    make_wheel(made.registry, "host-tool", "1.0")
    make_wheel(made.registry, "unneeded", "1.0")
    write(made.lock, f"{HEADER}# packages: 1\ntrl==0.22.2 \\\n    --hash=sha256:{digest}\n")
    write(made.lock.with_name("trl9.9-py311.txt"), "a lock of another stack")
    write(
        made.checkout / "pyproject.toml",
        '[project]\nname = "x"\nversion = "1"\n[project.optional-dependencies]\nhost = ["host-tool"]\n',
    )
    write(
        made.checkout / "harness" / "finetune_compat" / "__main__.py",
        "import host_tool, sys\nprint(host_tool.__version__, sys.argv[1:])\n",
    )
    write(made.checkout / "harness" / "large.py", "#" * 30_000)
    write(made.checkout / "tests" / "large.py", "#" * 30_000)
    write(made.checkout / "reports" / "baseline" / "observations.jsonl", "large")
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        git(made.checkout, *arguments)
    write(made.checkout / "notes.txt", "not tracked")
    (tmp_path / "index").mkdir()
    for name, value in {
        "UV_DEFAULT_INDEX": (tmp_path / "index").as_uri(),
        "UV_FIND_LINKS": str(made.registry),
        "UV_CACHE_DIR": str(tmp_path / "cache"),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(made.registry),
        "PIP_CONFIG_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(command, "locked", lambda _: read_lock(made.lock))
    return made


def write(path: Path, text: str) -> None:
    """Write a file and its parent folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def git(folder: Path, *arguments: str) -> str:
    """Run git with a fixed author."""
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(
        [shutil.which("git") or "git", "-C", str(folder), *who, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


class TestFromHereToThere:
    def test_every_order_of_unpacking_gives_a_bundle_that_starts_without_a_registry(self, workshop: Workshop) -> None:
        """The host side has its dependency, the harness runs in it, and the bundle holds only what is needed."""
        parts = workshop.make()
        assert len(parts) > 1 and all(part.stat().st_size <= LIMIT for part in parts)
        workshop.unpack(parts[::-1])
        found = sorted(str(path.relative_to(workshop.target)) for path in workshop.target.rglob("*") if path.is_file())
        assert found == [
            *(
                "harness/finetune_compat/__main__.py",
                "harness/large.py",
                "host.txt",
                "manifest.json",
                f"matrices/locks/{workshop.lock.name}",
            ),
            *("pyproject.toml", "start.py", "tests/large.py"),
            *("wheels/host_tool-1.0-py3-none-any.whl", "wheels/trl-0.22.2-py3-none-any.whl"),
        ]
        done = workshop.start()
        assert (done.returncode, done.stderr) == (0, "")
        target, commit = workshop.target, git(workshop.checkout, "rev-parse", "HEAD")
        first, _, last = done.stdout.splitlines()
        assert first == f"compat-bundle: all 8 files are here, of commit {commit[:12]}"
        assert last == (
            f"next: {target}/compat run trl0.22 --python {HERE} --offline --wheelhouse {target} "
            f"--base-python {sys.executable}"
        )
        ran = subprocess.run([str(target / "compat"), "a b", "c"], capture_output=True, text=True, check=True, cwd="/")
        assert ran.stdout == "1.0 ['a b', 'c']\n"

    def test_the_manifest_says_what_it_is_and_where_it_came_from(self, workshop: Workshop) -> None:
        """The manifest also records that the checkout had uncommitted changes."""
        write(workshop.checkout / "tests" / "large.py", "changed")
        workshop.unpack(workshop.make(None))
        manifest = json.loads((workshop.target / "manifest.json").read_text())
        assert manifest["commit"] == git(workshop.checkout, "rev-parse", "HEAD")
        assert manifest["changed"] == ["tests/large.py"]
        assert (manifest["stacks"], manifest["python"], manifest["device"]) == (["trl0.22"], HERE, "cpu")
        assert manifest["locks"] == {workshop.lock.name: read_lock(workshop.lock).sha256}
        assert (manifest["torch"], manifest["platform"]) == ("2.13.0", "x86_64-manylinux_2_28")
        assert manifest["files"]["tests/large.py"]["size"] == len("changed")

    def test_made_again_it_needs_no_registry_for_wheels_it_has(
        self, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The wheels come from the earlier bundle, which is replaced as a whole."""
        before = workshop.make()
        monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
        after = workshop.make(None)
        assert [path.name for path in workshop.out.iterdir()] == [after[0].name] != [path.name for path in before]
        assert workshop.left() == ["index", "out"]

    def test_the_next_attempt_reuses_the_wheels_of_a_failed_one(
        self, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """They are next to the folder, never in it, and are removed when the next attempt succeeds."""
        with pytest.raises(CompatError, match=r"large\.py is 0\.0 MiB, and a part has room for 0\.0 MiB"):
            workshop.make(30_000)
        assert not workshop.out.exists()
        monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
        workshop.make()
        assert workshop.left() == ["index", "out"]


class TestRefusalThere:
    def refusal(self, workshop: Workshop, code: int = 4) -> str:
        """Return the message with which start.py refuses; there is no host side and no launcher."""
        done = workshop.start()
        assert (done.returncode, done.stdout) == (code, "")
        assert not (workshop.target / "compat").exists()
        return done.stderr

    def test_a_part_that_is_missing_is_named(self, workshop: Workshop) -> None:
        """The file name of the part is in the message."""
        (first, *others) = workshop.make()
        workshop.unpack(others)
        assert self.refusal(workshop) == (
            f"compat-bundle: 1 of its {len(others) + 1} parts is not here: {first.name}\n"
            "A bundle can be used when all parts are unpacked in the same place, in any order.\n"
            "Copy the missing parts here, unpack them, and run start.py again.\n"
        )

    def test_a_file_that_is_missing_is_named_with_its_part(self, workshop: Workshop) -> None:
        """This is a part that was unpacked only partially."""
        parts = workshop.make(None)
        workshop.unpack(parts)
        (workshop.target / "tests" / "large.py").unlink()
        assert self.refusal(workshop) == (
            "compat-bundle: 1 of its files is missing: tests/large.py\n"
            "A part was unpacked incompletely, or the files were removed.\n"
            f"Unpack {parts[0].name} again.\n"
        )

    def test_a_file_that_was_changed_is_named(self, workshop: Workshop) -> None:
        """A change that keeps the length is found too."""
        parts = workshop.make(None)
        workshop.unpack(parts)
        wheel = workshop.target / "wheels" / "trl-0.22.2-py3-none-any.whl"
        wheel.write_bytes(b"\0" + wheel.read_bytes()[1:])
        assert self.refusal(workshop) == (
            "compat-bundle: not what was packed: wheels/trl-0.22.2-py3-none-any.whl\n"
            "The file was changed or damaged, or parts of two bundles were unpacked in one place.\n"
            f"Compare the hash of the part with the sender's, and unpack {parts[0].name} again.\n"
        )

    def test_another_python_is_refused(self, workshop: Workshop) -> None:
        """The wheels of the bundle would not fit, and pip's message would not say so."""
        workshop.unpack(workshop.make(None))
        manifest = workshop.target / "manifest.json"
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "python": OTHER}))
        assert self.refusal(workshop) == (
            f"compat-bundle: it is for Python {OTHER}, and this is {HERE} at {sys.executable}\n"
            "Its wheels fit that Python only.\n"
            f"Run start.py with the Python {OTHER} that has torch, or make a bundle with --python {HERE}.\n"
        )

    def test_a_folder_that_is_no_bundle_says_so(self, workshop: Workshop) -> None:
        """start.py alone is no bundle."""
        workshop.unpack(workshop.make(None))
        (workshop.target / "manifest.json").write_text("{")
        assert self.refusal(workshop) == (
            "compat-bundle: its manifest cannot be read: Expecting property name enclosed in double quotes: line 1 "
            "column 2 (char 1)\nNo part was unpacked here, or one was unpacked incompletely.\n"
            "Unpack every part (`tar -xf PART`) in the same place.\n"
        )


class TestRefusalHere:
    def test_an_unknown_stack_is_bad_input(self) -> None:
        """The message is the matrix's."""
        with pytest.raises(UnknownName) as caught:
            asked_for(MATRIX, ["trl0.22", "trl0.23"], None, DeviceKind.CPU, None)
        assert str(caught.value) == (
            "matrices/stacks.toml: there is no stack 'trl0.23'\nNames that look like it: trl0.22.\n"
            "`compat stacks` lists all of them."
        )

    def test_a_stack_without_a_lock_for_that_python_is_refused(self) -> None:
        """The message lists the Pythons that have a lock."""
        with pytest.raises(LockError) as caught:
            asked_for(MATRIX, ["trl0.22"], OTHER, DeviceKind.CPU, None)
        assert str(caught.value) == (
            f"trl0.22: there is no lock for Python {OTHER}\n"
            f"Its row is locked for {HERE}. A bundle is for one Python.\n"
            f"Give that Python with --python, or add {OTHER} to the row's `pythons` and run `nox -s lock`."
        )

    def test_a_stack_nothing_solves_is_refused(self, workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
        """There is nothing to pack."""
        found = Unsolvable(workshop.lock, NO_SOLUTION, {})
        monkeypatch.setattr(command, "locked", lambda _: found)
        with pytest.raises(LockError) as caught:
            workshop.make()
        assert str(caught.value) == (
            f"{STACK.on(HERE)}: no versions go together: {found.cause}\n"
            "The resolver found no solution for this stack, so there is nothing to pack.\n"
            "Leave it out; `compat stacks` lists all of them."
        )

    def test_a_registry_out_of_reach_leaves_nothing(self, workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
        """This is an infrastructure failure, and the folder does not exist afterwards."""
        monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
        monkeypatch.setenv("UV_HTTP_RETRIES", "0")
        monkeypatch.delenv("UV_FIND_LINKS")
        monkeypatch.setenv("PIP_FIND_LINKS", "")
        with pytest.raises(RegistryUnreachable) as caught:
            workshop.make()
        assert caught.value.exit_code is ExitCode.COULD_NOT_TELL
        assert str(caught.value).startswith("the host side: the package registry is out of reach: ")
        assert not workshop.out.exists()

    def test_a_hash_that_differs_leaves_the_earlier_bundle_as_it_was(self, workshop: Workshop) -> None:
        """The earlier bundle is unchanged byte for byte."""
        (part,) = workshop.make(None)
        before = part.read_bytes()
        text = workshop.lock.read_text()
        workshop.lock.write_text(f"{text[:-65]}{'b' * 64}\n")
        with pytest.raises(InstallError, match=r"file of trl==0\.22\.2 has another hash than the lock"):
            workshop.make(None)
        assert [path.read_bytes() for path in workshop.out.iterdir()] == [before]

    def test_a_checkout_without_git_is_refused(self, workshop: Workshop) -> None:
        """A bundle must record its commit."""
        shutil.rmtree(workshop.checkout / ".git")
        with pytest.raises(CompatError) as caught:
            workshop.make()
        assert str(caught.value) == (
            f"{workshop.checkout}: not a git checkout: no git, or no .git\n"
            "A bundle contains the tracked files of the harness, and names their commit.\n"
            "Make the bundle from a clone of this project."
        )

    @pytest.mark.parametrize("size", ["sixty", "0MiB", "-1GB", ""])
    def test_what_is_no_size_is_refused(self, size: str) -> None:
        """An invalid size is refused and not guessed."""
        with pytest.raises(CompatError) as caught:
            asked_for(read_matrix(), ["trl1.16"], None, DeviceKind.CPU, size)
        assert str(caught.value) == (
            f"--max-size: {size!r} is not a size\n"
            "A size is a number above 0 with a unit.\n"
            "Write it as 60MiB, 500MB or 1GiB."
        )
