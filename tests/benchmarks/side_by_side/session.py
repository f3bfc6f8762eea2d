"""The time of the parts of one session: its output, and marks from inside its cells' processes, on one clock."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune_compat.contract.errors import CompatError

from side_by_side import CONTROLLER, MARKS, WORKER

PLUGIN = "tests.benchmarks.side_by_side.marks"


@dataclass(frozen=True, slots=True)
class Event:
    """An observed event."""

    at: float
    """Seconds of the monotonic clock."""
    who: str
    """`host`, or a process of the cells."""
    what: str


HOST = "host"


def seen(command: Sequence[str], *, log: Path, cwd: Path, environ: Mapping[str, str]) -> list[Event]:
    """Run a session of nox and return its events, in order.

    Raises:

    CompatError: it printed no end of the session.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    file = log.with_suffix(".marks")
    file.unlink(missing_ok=True)
    events = [Event(time.monotonic(), HOST, "start")]
    with (
        log.open("w", encoding="utf-8") as out,
        subprocess.Popen(
            command,
            cwd=cwd,
            env={**environ, MARKS: str(file), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        try:
            for line in process.stdout or ():
                events.append(Event(time.monotonic(), HOST, line.rstrip()))
                out.write(line)
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            raise
    events.append(Event(time.monotonic(), HOST, "exit"))
    if file.exists():
        for line in file.read_text(encoding="utf-8").splitlines():
            at, who, what = line.split(" ", 2)
            events.append(Event(float(at), who, what))
    return sorted(events, key=lambda event: event.at)


def parts(events: Sequence[Event], flows: float) -> list[tuple[str, float]]:
    """The seconds of each part, in order; together they are the session's.

    Args:

    events: of one session with one worker.

    flows: seconds of the same flows as a straight-line script, in the same environment.

    Raises:

    CompatError: the end of a part was not observed.
    """
    start, end = events[0].at, events[-1].at
    nox = _first(events, HOST, r"nox > Running session ")
    environment = _first(events, HOST, r"environment (reused|made) in ")
    pytest = _first(events, CONTROLLER, "process")
    imports = _first(events, WORKER, "import")
    cells = _first(events, WORKER, "cell ")
    over = _first(events, WORKER, "end")
    ended = _first(events, CONTROLLER, "ended")
    printed = _first(events, HOST, r"nox > Session .* (was successful|failed)")
    between = sum(_until_next(events, "between cells"))
    return [
        ("nox starts", nox - start),
        ("environment compared with its lock", environment - nox),
        ("cells looked up in the store, plan written", pytest - environment),
        ("pytest and its worker start", imports - pytest),
        ("import of the stack", cells - imports),
        ("the flows themselves", min(flows, over - cells - between)),
        ("recorder", max(0.0, over - cells - between - flows)),
        ("between cells: judging, keeping, pytest", between),
        ("pytest and its worker end", ended - over),
        ("judging, printing", printed - ended),
        ("files of the run, nox ends", end - printed),
    ]


def _first(events: Iterable[Event], who: str, what: str) -> float:
    for event in events:
        if event.who == who and re.match(what, event.what):
            return event.at
    raise CompatError(
        f"a session said nothing of {what!r}",
        where=who,
        meaning="It failed, or what nox and the harness print has changed.",
        todo="Read the log of the benchmark, and this module.",
    )


def _until_next(events: Iterable[Event], what: str) -> Iterable[float]:
    """Seconds from each mark `what` of a worker to its next mark."""
    of_worker = [event for event in events if event.who == WORKER]
    return [later.at - event.at for event, later in itertools.pairwise(of_worker) if event.what == what]
