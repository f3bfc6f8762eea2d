"""A cell on a busy machine has the time that it has on an idle one; a cell that hangs has no more."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from finetune_compat.cell import own_time
from finetune_compat.machine.places import PACKAGE

RUNS = """
import sys, time
sys.path.insert(0, sys.argv[1])
from types import SimpleNamespace
from finetune_compat.cell import own_time
from finetune_compat.cell.time_limit import limited
sys.modules["finetune_compat.cell.execution"] = SimpleNamespace(__spec__=None)
own_time.EVERY_S = 0.1
real = own_time.waited_s
begin = time.monotonic()
if sys.argv[2] == "busy":
    own_time.waited_s = lambda: (time.monotonic() - begin) * 0.75
with limited(1.0), own_time.own_time(1.0):
    time.sleep(float(sys.argv[3]))
time.sleep(1.5)
print("done")
"""


def ran(machine: str, seconds: float) -> bool:
    """Whether a cell that takes so long ends by itself, with a limit of 1 s."""
    command = [sys.executable, "-c", RUNS, str(PACKAGE.parent), machine, str(seconds)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120).stdout == "done\n"


def test_time_without_a_core_does_not_count() -> None:
    """Three quarters of it here: 2 s are half a second of the cell. What hangs on such a machine ends too."""
    assert ran("busy", 2.0)
    assert not ran("busy", 60.0)


def test_a_cell_that_hangs_ends_in_time() -> None:
    """It does not wait for a core; and no timer is left after a cell that ended."""
    assert not ran("idle", 60.0)
    assert ran("idle", 0.1)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_the_system_counts_the_time_without_a_core() -> None:
    """Two processes on one core wait for each other; one that sleeps does not wait."""
    code = (
        "import os, sys, time; sys.path.insert(0, sys.argv[1]); from finetune_compat.cell.own_time import waited_s\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); end = time.monotonic() + 1.5\n"
        "while time.monotonic() < end: pass\n"
        "print(waited_s())"
    )
    words = [sys.executable, "-c", code, str(PACKAGE.parent)]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert sum(float(each.communicate()[0]) for each in both) > 0.5
    before = own_time.waited_s()
    time.sleep(0.2)
    assert own_time.waited_s() - before < 0.2


def test_cpu_seconds_are_of_this_process_and_of_those_that_it_waited_for() -> None:
    """Sleeping takes none. Every cell that is run adds what it used."""
    before = own_time.used_s()
    time.sleep(0.3)
    slept = own_time.used_s() - before
    assert slept < 0.2
    code = "import time; end = time.process_time() + 0.5\nwhile time.process_time() < end: pass"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert own_time.used_s() - before - slept >= 0.5
