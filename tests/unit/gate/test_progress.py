"""The progress of a gate: what a person sees, and how often."""

from __future__ import annotations

import io
import re
import threading
import time

import pytest
from finetune_compat.gate import progress
from finetune_compat.gate.progress import GateProgress
from finetune_compat.run.estimate import START_S
from rich.console import Console


def console(*, terminal: bool, width: int = 80) -> tuple[Console, io.StringIO]:
    """A console and what is written to it."""
    out = io.StringIO()
    return Console(file=out, width=width, force_terminal=terminal, highlight=False), out


def test_counts_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers share what is left. A machine that needs twice the time has twice the time left."""
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    shown = GateProgress(console(terminal=False)[0])
    assert str(shown) == "starting"
    shown.expect({f"s/{name}": 10.0 for name in "abcd"}, 2)
    shown.phase("trl0.22-py311", "running cells")
    assert str(shown).startswith(f"0 of 4 cells, about {20 + START_S:.0f} s left")  # it imports the stack first
    now = 30.0
    shown.ended("s/a")
    assert str(shown) == "1 of 4 cells, about 15 s left; trl0.22-py311: running cells"
    shown.ended("elsewhere")
    now = 50.0
    shown.ended("s/b")  # 10 expected seconds in 20
    assert str(shown).startswith("2 of 4 cells, about 40 s left")
    shown.ended("s/c")
    shown.ended("s/d")
    shown.phase("trl0.22-py311", "")
    assert str(shown) == "4 of 4 cells"
    now = 500.0  # the search made an environment, which says nothing about the speed of cells
    shown.expect({"s/e": 10.0}, 2)  # on a stack that must be started again
    assert str(shown) == f"4 of 5 cells, about {5 + START_S:.0f} s left"


def test_cells_that_are_not_waited_for_any_more() -> None:
    """Those that ended stay counted."""
    shown = GateProgress(console(terminal=False)[0])
    shown.expect({f"s/{name}": 10.0 for name in "abc"}, 1)
    shown.ended("s/a")
    shown.drop(["s/b"])
    assert str(shown).startswith("1 of 2 cells")


def test_sides_that_do_the_same_share_a_text() -> None:
    """So that the line fits a terminal of 80 columns."""
    to, _ = console(terminal=True)
    shown = GateProgress(to)
    for side in ("trl0.19-py311", "trl0.22-py311"):
        shown.phase(side, "making the environment")
    assert shown._fitting() == "trl0.19-py311, trl0.22-py311: making the environment"
    shown.phase("trl0.19-py311", "running cells")
    assert str(shown) == "trl0.19-py311: running cells; trl0.22-py311: making the environment"


def test_a_line_is_due_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log shows that the gate is alive."""
    monkeypatch.setattr(progress, "REPORT_EVERY_S", 0.6)
    to, out = console(terminal=False)
    with GateProgress(to) as shown:
        shown.phase("trl0.22-py311", "making its environment")
        time.sleep(2.0)
    assert out.getvalue().splitlines()[0] == "trl0.22-py311: making its environment"
    assert 1 <= len(out.getvalue().splitlines()) <= 3


def test_a_terminal_is_never_silent() -> None:
    """The bar is drawn again several times a second, and gone at the end."""
    to, out = console(terminal=True)
    with GateProgress(to) as shown:
        shown.expect({"a": 1.0}, 1)
        before = len(out.getvalue())
        time.sleep(1.0)
        assert len(out.getvalue()) > before


def test_lines_of_two_sides_never_mix() -> None:
    """Both sides report from threads of their own."""
    to, out = console(terminal=False, width=200)

    def say(side: str) -> None:
        for number in range(200):
            shown.say(f"{side * 60}{number}")

    with GateProgress(to) as shown:
        threads = [threading.Thread(target=say, args=(side,)) for side in "xy"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = out.getvalue().splitlines()
    assert len(lines) == 400
    assert all(re.fullmatch(r"(x{60}|y{60})\d+", line) for line in lines)


def test_no_line_of_a_terminal_is_too_wide() -> None:
    """A long state is cut."""
    to, _ = console(terminal=True, width=60)
    shown = GateProgress(to)
    shown.phase("transformers5.23-py311", "making its environment, which is a long story " * 3)
    assert len(shown._fitting()) <= 60 - 24


def test_messages_of_libraries_cannot_move_the_cursor() -> None:
    """A line may hold the message of an error."""
    to, out = console(terminal=False)
    GateProgress(to).say("BLOCK is certain: \x1b[2J[red]x[/red]")
    assert out.getvalue() == "BLOCK is certain: \\x1b[2J[red]x[/red]\n"
