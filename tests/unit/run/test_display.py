"""Progress of a run on a terminal, or line by line."""

from __future__ import annotations

import pytest
from finetune_compat.checks import Outcome
from finetune_compat.run import display
from finetune_compat.run.display import Display
from finetune_compat.run.progress import Progress


@pytest.fixture
def progress() -> Progress:
    """Two cells of one stack."""
    return Progress({"a/f[x]@cpu": 2.0, "a/g[x]@cpu": 2.0}, cores=1)


def test_a_log_has_a_line_now_and_then(
    progress: Progress, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not at every look at the cells; at the end always."""
    now = [100.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: now[0])
    with Display(progress) as shown:
        shown.refresh()
        assert capsys.readouterr().out == ""
        now[0] += display.REPORT_EVERY_S
        shown.refresh()
        assert capsys.readouterr().out == f"{progress}\n"
        now[0] += display.REPORT_EVERY_S - 1
        shown.refresh()
        assert capsys.readouterr().out == ""
        progress.ends("a/f[x]@cpu", 1.0, Outcome.PASS)
    assert capsys.readouterr().out == f"{progress}\n"


def test_a_failure_is_printed_at_once_and_as_it_is(progress: Progress, capsys: pytest.CaptureFixture[str]) -> None:
    """Brackets of a cell's id are no markup, and a long line is not wrapped."""
    line = "fail: trl0.22-py311/sft-peft-model[bold]@cpu" + " x" * 200
    Display(progress).say(line)
    assert capsys.readouterr().out == f"{line}\n"
