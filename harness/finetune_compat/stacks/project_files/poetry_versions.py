"""Version constraints as Poetry writes them (`^1.2`, `~1.2`, `1.2 || 2.0`), as PEP 440 specifiers."""

from __future__ import annotations

from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from finetune_compat.stacks.project_files.text import LONGEST, broken, quoted
from finetune_compat.stacks.project_files.value import Kind, Place


def specifier_of(constraint: Any, place: Place, kind: Kind) -> str | None:
    """The PEP 440 specifier of a constraint; empty for any version, None if PEP 440 has none, as for `1 || 3`.

    Raises:
        ProjectFileError: it is not valid.
    """
    # The parser of Poetry itself. Files without Poetry's tables need not wait for its import.
    from poetry.core.constraints.version import VersionRangeConstraint, parse_constraint
    from poetry.core.constraints.version.exceptions import ParseConstraintError

    if not isinstance(constraint, str) or len(constraint) > LONGEST:
        raise broken(kind, place, f"{quoted(constraint)} is not a version constraint of Poetry")
    try:
        parsed = parse_constraint(constraint)
    except (ParseConstraintError, ValueError, RecursionError):
        raise broken(kind, place, f"{quoted(constraint)} is not a version constraint of Poetry") from None
    if parsed.is_any():
        return ""
    if not isinstance(parsed, VersionRangeConstraint):
        return _as_pep440(str(parsed))
    text = str(parsed)
    return _as_pep440(f"=={text}" if parsed.is_simple() and text[:1].isdigit() else text)


def _as_pep440(text: str) -> str | None:
    try:
        return str(SpecifierSet(text))
    except (InvalidSpecifier, ValueError):
        return None


def python_specifier(constraint: Any, place: Place, kind: Kind) -> str:
    """The specifier for Python; empty where PEP 440 has none.

    Raises:
        ProjectFileError: it is not valid.
    """
    return specifier_of(constraint, place, kind) or "" if constraint else ""
