"""Tools end when a signal asks their host to end, whichever thread waits for them."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from finetune_compat.contract.errors import Interrupted
from finetune_compat.machine.interruption import ending_tools, run

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SLEEPS = "import os, sys, time; open(sys.argv[1], 'w').close(); time.sleep(600)"


@pytest.fixture(autouse=True)
def usual_handlers() -> Iterator[None]:
    """The test runner may have been started to ignore some signals."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def until(condition: Callable[[], bool]) -> None:
    """Wait at most 60 s."""
    ends_at = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < ends_at
        time.sleep(0.01)


def test_a_tool_gets_its_input_and_its_variables() -> None:
    code = "import os, sys; print(sys.stdin.read(), os.environ['MINE']); sys.stderr.write('odd'); sys.exit(3)"
    done = run([sys.executable, "-c", code], {"MINE": "yes"}, "given")
    assert (done.returncode, done.stdout, done.stderr) == (3, "given yes\n", "odd")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_tools_of_all_threads(number: signal.Signals, tmp_path: Path) -> None:
    """Also a tool that a thread starts after the signal. The exit of the pool waits for all of them."""
    codes: list[int] = []
    began = [tmp_path / "one", tmp_path / "other"]
    late = threading.Event()

    def tool(place: Path) -> None:
        codes.append(run([sys.executable, "-c", SLEEPS, str(place)], os.environ, "").returncode)

    def later() -> None:
        late.wait()
        tool(tmp_path / "late")

    def waited() -> None:
        with ending_tools(), ThreadPoolExecutor(3) as pool:
            for place in began:
                pool.submit(tool, place)
            pool.submit(later)
            until(lambda: all(place.exists() for place in began))
            try:
                os.kill(os.getpid(), number)
            finally:
                late.set()

    with pytest.raises(Interrupted) as raised:
        waited()
    assert codes == [-signal.SIGTERM] * 3
    assert (str(raised.value), raised.value.exit_code) == (f"interrupted by {number.name}", 128 + number)


def test_the_second_signal_has_its_usual_effect() -> None:
    """A cleanup that hangs can be ended."""

    def hung() -> None:
        with ending_tools():
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except Interrupted:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        hung()


def test_handlers_are_restored_and_ignored_signals_stay_ignored() -> None:
    """`nohup` ignores SIGHUP. A tool that is started afterwards is not ended."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    before = [signal.getsignal(number) for number in SIGNALS]

    def ended() -> None:
        with ending_tools():
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="interrupted by SIGTERM"):
        ended()
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert run([sys.executable, "-c", "pass"], os.environ, "").returncode == 0


def test_a_thread_gets_no_handlers() -> None:
    """Only the main thread may set them."""
    before = [signal.getsignal(number) for number in SIGNALS]

    def inside() -> list[object]:
        with ending_tools():
            return [signal.getsignal(number) for number in SIGNALS]

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(inside).result() == before
