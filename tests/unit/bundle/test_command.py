"""A bundle made, copied and started with the real git, pip, uv and venv, from a small checkout and small wheels."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
from bundle_workshop import HERE, LIMIT, MATRIX, STACK, Workshop, git, write
from finetune_compat.bundle import command
from finetune_compat.bundle.command import asked_for
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
from finetune_compat.stacks.matrix import read_matrix
from stack_builders import NO_SOLUTION

OTHER = "3.8"


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
