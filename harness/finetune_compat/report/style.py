"""Terminal colours. No information is in a colour alone."""

from __future__ import annotations

from typing import assert_never

from finetune_compat.contract.errors import ExitCode
from finetune_compat.results.lines import Mark
from finetune_compat.results.summary import Tally


def of_mark(mark: Mark) -> str:
    """Colour of a cell's verdict."""
    match mark:
        case Mark.PASS:
            return "green"
        case Mark.REFUSED:
            return "cyan"
        case Mark.XFAIL:
            return "yellow"
        case Mark.FAIL:
            return "bold red"
        case Mark.INFRASTRUCTURE | Mark.UNINSTALLABLE:
            return "magenta"
    assert_never(mark)


def of_tally(tally: Tally) -> str:
    """Colour of the worst of many cells."""
    ranked = ((tally.failed, Mark.FAIL), (tally.by_the_machine, Mark.INFRASTRUCTURE), (tally.xfailed, Mark.XFAIL))
    return of_mark(next((mark for number, mark in ranked if number), Mark.PASS))


def of_exit_code(code: ExitCode) -> str:
    """Colour of a conclusion."""
    if code is ExitCode.HEALTHY:
        return "bold green"
    return "bold red" if code is ExitCode.UNHEALTHY else "bold magenta"
