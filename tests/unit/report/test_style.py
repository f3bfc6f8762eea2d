"""Terminal colours."""

from __future__ import annotations

import pytest
from finetune_compat.contract.errors import ExitCode
from finetune_compat.contract.verdict import Kind
from finetune_compat.report.style import of_exit_code, of_mark, of_tally
from finetune_compat.results.lines import Mark
from finetune_compat.results.summary import Tally


def test_only_what_breaks_training_by_a_release_is_red() -> None:
    """These are an unlisted failure, and a listed bug of a release. Traps and limits of a machine are not."""
    marks = {mark: of_mark(mark) for mark in Mark}
    assert {mark for mark, colour in marks.items() if "red" in colour} == {Mark.FAIL}
    kinds = {kind: of_mark(Mark.XFAIL, kind) for kind in Kind}
    assert {kind for kind, colour in kinds.items() if "red" in colour} == {Kind.UPSTREAM}
    assert len(set(kinds.values())) == len(Kind)


@pytest.mark.parametrize(
    ("tally", "mark", "kind"),
    [
        (Tally(passed=9, failed=1, infrastructure=1), Mark.FAIL, None),
        (Tally(passed=9, bugs=1, limits=2), Mark.XFAIL, Kind.UPSTREAM),
        (Tally(passed=9, limits=2), Mark.XFAIL, Kind.PLATFORM),
        (Tally(passed=9), Mark.PASS, None),
    ],
)
def test_many_cells_have_the_colour_of_the_worst(tally: Tally, mark: Mark, kind: Kind | None) -> None:
    """Nine cells that pass hide none that fails."""
    assert of_tally(tally) == of_mark(mark, kind)


def test_only_healthy_is_green() -> None:
    """Could not tell is neither green nor red."""
    colours = {code: of_exit_code(code) for code in (ExitCode.HEALTHY, ExitCode.UNHEALTHY, ExitCode.COULD_NOT_TELL)}
    assert [code for code, colour in colours.items() if "green" in colour] == [ExitCode.HEALTHY]
    assert [code for code, colour in colours.items() if "red" in colour] == [ExitCode.UNHEALTHY]
