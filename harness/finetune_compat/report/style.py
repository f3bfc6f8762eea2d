"""Terminal colours. No information is in a colour alone."""

from __future__ import annotations

from typing import assert_never

from finetune_compat.contract.errors import ExitCode
from finetune_compat.contract.verdict import Kind
from finetune_compat.results.lines import Mark
from finetune_compat.results.summary import Tally


def of_mark(mark: Mark, kind: Kind | None = None) -> str:
    """Colour of a cell's verdict. Of the xfails, only a bug of a release is red."""
    match mark:
        case Mark.PASS:
            return "green"
        case Mark.REFUSED:
            return "cyan"
        case Mark.XFAIL if kind is Kind.UPSTREAM:
            return "red"
        case Mark.XFAIL:
            return "blue" if kind is Kind.PLATFORM else "yellow"
        case Mark.FAIL:
            return "bold red"
        case Mark.INFRASTRUCTURE | Mark.UNINSTALLABLE:
            return "magenta"
    assert_never(mark)


def of_tally(tally: Tally) -> str:
    """Colour of the worst of many cells."""
    return of_mark(*tally.worst)


def of_exit_code(code: ExitCode) -> str:
    """Colour of a conclusion."""
    if code is ExitCode.HEALTHY:
        return "bold green"
    return "bold red" if code is ExitCode.UNHEALTHY else "bold magenta"
