"""Call chains, reduced to the frames of flows and libraries."""

from __future__ import annotations

import linecache
import sys
import sysconfig
from pathlib import Path
from types import FrameType, TracebackType

from finetune_compat.contract.records import Frame

PROJECT = Path(__file__).parents[3]
"""The directory that this package is imported from."""
_SITE = "site-packages/"
_PACKAGE = str(PROJECT / "finetune_compat") + "/"
_OWN_FLOWS = _PACKAGE + "cell/flows/"

# Frames of these are left out: they are in every chain and explain nothing.
_PLUMBING = ("torch/", "pytest", "_pytest/", "pluggy/", "xdist/", "execnet/", "huggingface_hub/utils/_deprecation.py")

Chain = tuple[tuple[str, int, str], ...]
"""File, line and function of each frame, outermost first. Cheap to create and to compare."""


def calling_chain(frame: FrameType | None) -> Chain:
    """The chain of library and flow frames that leads to `frame`, the last of the chain."""
    chain = []
    while frame is not None:
        if _is_telling(frame.f_code.co_filename):
            chain.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
        frame = frame.f_back
    return tuple(reversed(chain))


def raised_chain(traceback: TracebackType | None) -> Chain:
    """The chain of library and flow frames that an exception passed through, outermost first."""
    chain = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if _is_telling(code.co_filename):
            chain.append((code.co_filename, traceback.tb_lineno, code.co_name))
        traceback = traceback.tb_next
    return tuple(chain)


_users = False


def tell_users_lines() -> None:
    """From now on include the frames of a user's own files, in any directory."""
    global _users  # noqa: PLW0603 - one setting per process
    _users = True


def _is_telling(file: str) -> bool:
    if file.startswith(_OWN_FLOWS):
        return True
    if file.startswith(_PACKAGE):  # in site-packages too, if a user installed this package in the stack
        return False
    _, found, inside = file.rpartition(_SITE)
    return not inside.startswith(_PLUMBING) if found else _users and _is_users(file)


def _is_users(file: str) -> bool:
    return not file.startswith(("<", sysconfig.get_path("stdlib") + "/"))


def readable(chain: Chain) -> tuple[Frame, ...]:
    """The chain with short file names and source lines."""
    return tuple(Frame(_short(file), line, name, linecache.getline(file, line).strip()) for file, line, name in chain)


def _short(file: str) -> str:
    # site-packages first, because environments are directories of the project.
    _, installed, inside = file.rpartition(_SITE)
    if installed:
        return inside
    lies_in = next((place for place in (PROJECT, Path.cwd()) if Path(file).is_relative_to(place)), None)
    return str(Path(file).relative_to(lies_in)) if lies_in else Path(file).name


def without_place(text: str) -> str:
    """A library's message without the directory of this package and without the working directory."""
    return text.replace(str(PROJECT), ".").replace(f"{Path.cwd()}/", "./")


def here() -> Chain:
    """The chain that leads to the caller of the function that calls `here`."""
    return calling_chain(sys._getframe(2))
