"""Install packages that an environment lacks into a directory of their own, so that the environment stays as locked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from finetune_compat.contract.errors import InstallError
from finetune_compat.stacks.uv_tool import Answer, install_environ, run_uv

_WOULD_INSTALL = re.compile(r"^ ?\+ (\S+==\S+)", re.MULTILINE)
_WOULD_REMOVE = re.compile(r"^ ?- (\S+==\S+)", re.MULTILINE)


def add_packages(python: Path, packages: Sequence[str], directory: Path) -> tuple[str, ...]:
    """Install `packages`, and what they need beyond the environment of `python`, into `directory`.

    Returns:
        The installed packages, as `name==version`; empty if the environment has all of them.

    Raises:
        InstallError: uv finds no versions, or they need another version of a package of the environment.
    """
    environ = install_environ()
    pip = ("pip", "install", "--python", str(python))
    plan = run_uv((*pip, "--dry-run", *packages), environ=environ)
    if not plan.ok:
        raise _failed(packages, plan)
    replaced = _WOULD_REMOVE.findall(plan.complaint)
    if replaced:
        raise InstallError(
            f"{', '.join(packages)} would replace {', '.join(replaced)}",
            where=f"--with {' '.join(packages)}",
            meaning="The environment has exactly the locked versions: with others, another stack would be measured.",
            todo="Name a release that works with these versions, such as --with 'package==1.2'.",
        )
    missing = tuple(_WOULD_INSTALL.findall(plan.complaint))
    if missing:
        # Without dependencies: they are in the environment, or listed themselves.
        done = run_uv((*pip, "--no-deps", "--target", str(directory), *missing), environ=environ)
        if not done.ok:
            raise _failed(packages, done)
    return missing


def _failed(packages: Sequence[str], answer: Answer) -> InstallError:
    return InstallError(
        answer.cause,
        where=f"--with {' '.join(packages)}",
        meaning="The registry does not answer."
        if answer.unreachable
        else "uv cannot install it into this environment.",
        todo="Try again later." if answer.unreachable else "Correct the name or the version.",
    )
