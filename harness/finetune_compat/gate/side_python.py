"""The Python that a side runs on."""

from __future__ import annotations

import re

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from finetune_compat.contract.errors import CompatError
from finetune_compat.stacks.matrix import Matrix
from finetune_compat.stacks.project_files.value import NEWEST_PATCH


def python_for(asked: str | None, matrix: Matrix, *, takes: str = "", where: str = "") -> str:
    """The Python of a side that is not a row: the requested one, or the first of the matrix that it accepts.

    Args:
        asked: the value of `--python`.
        matrix: locks exist for its Pythons.
        takes: the version specifier for Python in the side's file, or the version of its interpreter.
        where: the side, for messages.

    Raises:
        CompatError: no Python of the matrix fits.
    """
    if asked is not None and asked not in matrix.pythons:
        raise CompatError(
            f"there are no locks for Python {asked}",
            where="--python",
            meaning=f"The matrix runs on {', '.join(matrix.pythons)}.",
            todo="Name one of these, or leave --python out.",
        )
    own = re.fullmatch(r"==(3\.\d+)\.\*", takes)
    try:
        # Packages of one Python can be installed on another that is asked for.
        specifier = SpecifierSet("" if own and asked else takes)
    except InvalidSpecifier:
        specifier = SpecifierSet()
    for python in (asked,) if asked else matrix.pythons:
        if specifier.contains(f"{python}.{NEWEST_PATCH}"):
            return python
    raise CompatError(
        f"it needs Python {own[1] if own else takes}",
        where=where,
        meaning=f"The matrix runs on {', '.join(matrix.pythons)}.",
        todo="Name one of these with --python, or give a file for one of them.",
    )
