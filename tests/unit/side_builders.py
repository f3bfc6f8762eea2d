"""Sides of a gate as a user gives them: parsed, refused, and written into files."""

from __future__ import annotations

from pathlib import Path

import pytest
from finetune_compat.contract.errors import CompatError, ExitCode
from finetune_compat.gate.asked import Wanted
from finetune_compat.gate.inputs import read_side
from finetune_compat.stacks.matrix import read_matrix

MATRIX = read_matrix()
CAN_BE = (
    "A side is a stack (trl0.22), pins (trl==0.22.2), latest, a project folder, a lock or requirements file, or the "
    "path of an interpreter or a virtual environment."
)
PLATFORM = (
    "torch is the platform layer; its version is the matrix's, its build the machine's; a fault of another torch or of "
    "CUDA is not seen"
)
ANY = "a fault that needs it is not seen, and a script that imports it fails on both sides"


def wanted(*texts: str) -> Wanted:
    """A side that is no row of the matrix."""
    found = read_side(texts, "--to", MATRIX)
    assert isinstance(found, Wanted)
    return found


def refusal(*texts: str) -> str:
    """Return the message for an invalid side, which is always bad input."""
    with pytest.raises(CompatError) as raised:
        read_side(texts, "--to", MATRIX)
    assert raised.value.exit_code is ExitCode.BAD_INPUT
    return str(raised.value)


def written(folder: Path, name: str, text: str) -> str:
    """Write a file with this text and return its path."""
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def site(folder: Path, python: str) -> Path:
    """The site-packages of an environment."""
    return folder / "lib" / f"python{python}" / "site-packages"


def environment(folder: Path, python: str, **packages: str) -> Path:
    """Make an environment with these packages; its interpreter leaves a file if it is run. Returns the interpreter."""
    for name, version in packages.items():
        (site(folder, python) / f"{name}-{version}.dist-info").mkdir(parents=True)
    (folder / "bin").mkdir()
    program = folder / "bin" / "python"
    program.write_text(f"#!/bin/sh\ntouch {folder}/ran\n")
    program.chmod(0o755)
    return program
