"""End the tools that this process waits for when a signal asks it to end. Host side.

A thread that waits for a tool holds the exit of its pool, and so that of the process: a resolver can take minutes. A
process that SIGTERM ends at once leaves its tools running. So the handler ends the tools first.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence

from finetune_compat.contract.errors import Interrupted

_ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_running: set[subprocess.Popen[str]] = set()
_stopping = threading.Event()


def run(command: Sequence[str], environ: Mapping[str, str], stdin: str) -> subprocess.CompletedProcess[str]:
    """Run a tool in any thread and capture its output. It ends early, by SIGTERM, if `ending_tools` gets a signal."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=dict(environ), stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        _running.add(process)
        try:
            if _stopping.is_set():  # the signal came after this thread decided to start the tool
                process.terminate()
            output, complaint = process.communicate(stdin)
        except BaseException:
            process.kill()
            raise
        finally:
            _running.discard(process)
    return subprocess.CompletedProcess(process.args, process.returncode, output, complaint)


@contextlib.contextmanager
def ending_tools() -> Iterator[None]:
    """In this context, the first SIGINT, SIGTERM or SIGHUP ends all tools of `run`. The second has its usual effect.

    Signals that this process ignores or handles otherwise stay as they are. In a thread other than the main one, which
    gets no signals, this does nothing.

    Raises:
        Interrupted: in the main thread, at the first signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = (signal.SIG_DFL, signal.default_int_handler)
    before = {number: handler for number in _ASKING if (handler := signal.getsignal(number)) in usual}

    def end(number: int, _: object) -> None:
        signal.signal(number, before[signal.Signals(number)])
        _stopping.set()
        for process in tuple(_running):
            process.terminate()
        raise Interrupted(number)

    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _stopping.clear()
