"""The start of an unpacked bundle, and what is refused."""

from __future__ import annotations

import json
import shlex
import sys

import pytest
from bundle_workshop import HERE, Workshop
from finetune_compat.bundle import start
from finetune_compat.contract.errors import ExitCode

OTHER = "3.8"


@pytest.mark.parametrize(
    ("version", "note"),
    [
        ("2.13.0+cpu", ""),
        ("2.13.0", ""),
        ("2.14.0+cu130", " (the matrix has 2.13.0; every observation records this difference)"),
    ],
)
def test_the_torch_of_this_python_is_compared_with_the_matrix(
    monkeypatch: pytest.MonkeyPatch, version: str, note: str
) -> None:
    """The build does not matter: it is the machine's."""
    monkeypatch.setattr(start.importlib.metadata, "version", lambda _: version)
    assert start.about_torch("2.13.0") == f"{sys.executable} has torch {version}{note}"


def test_without_torch_another_python_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle has no torch."""

    def missing(name: str) -> str:
        raise start.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(start.importlib.metadata, "version", missing)
    assert start.about_torch("2.13.0").endswith("has no torch: give a Python that has torch with --base-python")


def test_the_next_command_runs_every_stack_of_the_bundle() -> None:
    """As a shell reads it: names with blanks are quoted."""
    words = shlex.split(start.next_command({"stacks": ["trl0.22", "a b"], "python": "3.11"}))
    assert words == [
        *(str(start.ROOT / "compat"), "run", "trl0.22", "a b", "--python", "3.11", "--offline"),
        *("--wheelhouse", str(start.ROOT), "--base-python", sys.executable),
    ]


def test_four_files_are_named_and_the_others_counted() -> None:
    """The message stays readable where a whole folder is missing."""
    files = {f"f{number}": {"part": 1, "sha256": ""} for number in range(6)}
    with pytest.raises(start.Refusal) as raised:
        start.refuse_incomplete({"files": {**files, "start.py": {"part": 1, "sha256": ""}}, "id": "5f", "parts": 2})
    assert "6 of its files are missing: f0, f1, f2, f3 and 2 more\n" in str(raised.value)
    assert raised.value.code == start.INCOMPLETE


def test_exit_codes_are_those_of_the_harness() -> None:
    """The script cannot import them."""
    assert (start.INCOMPLETE, start.NO_ENVIRONMENT) == (ExitCode.BAD_INPUT, ExitCode.ENVIRONMENT)


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
