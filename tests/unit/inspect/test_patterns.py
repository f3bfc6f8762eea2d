"""A pattern of a stranger ends in an answer or in one error, within the limit."""

from __future__ import annotations

import signal
import threading
import time

import pytest
from finetune_compat.contract.errors import AdapterError
from finetune_compat.inspect import patterns


def test_a_pattern_that_hangs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next match has the whole time again."""
    monkeypatch.setattr(patterns, "LIMIT_S", 0.3)
    begin = time.process_time()
    for match in (patterns.full, patterns.begin):
        with pytest.raises(AdapterError, match=r"takes longer than 0\.3 s to match the name of a module"):
            match(r"(a|a)+$", "a" * 60 + "b")
    assert time.process_time() - begin < 3
    assert patterns.full(r"(.*\.)?(q_proj)", "model.q_proj") is not None
    assert patterns.begin("x", "y") is None


def test_the_timer_is_gone_afterwards() -> None:
    """Other code may use it."""
    handler = signal.getsignal(signal.SIGVTALRM)
    patterns.full("x", "x")
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGVTALRM) is handler


def test_another_thread_matches_without_the_limit() -> None:
    """Only the main thread gets signals."""
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(patterns.full("x", "x")))
    thread.start()
    thread.join()
    assert found and found[0] is not None
