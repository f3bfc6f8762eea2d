"""The server of a stack's workers, as xdist's controller uses it: its specification starts workers through execnet."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import execnet
import pytest
from finetune_compat.cell.forking.workers import ForkServer
from finetune_compat.machine import child_processes
from finetune_compat.machine.places import PACKAGE

SAYS = """
import os, sys
channel.send((os.getpid(), os.getppid(), "marked_module" in sys.modules, os.environ["GIVEN"], sys.argv))
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of modules that the server can import."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(PACKAGE.parent), str(tmp_path)]))
    monkeypatch.setenv("GIVEN", "value")
    monkeypatch.setenv(child_processes.PARENT, str(os.getpid()))
    (tmp_path / "marked_module.py").write_text("")
    (tmp_path / "broken_module.py").write_text("raise ValueError('broken')")
    return tmp_path


@contextlib.contextmanager
def serving(*names: str, below: Path) -> Iterator[ForkServer]:
    """Open a server that imports these modules."""
    server = ForkServer(names, below)
    try:
        yield server
    finally:
        server.close()


def worker(group: execnet.Group, server: ForkServer) -> execnet.Gateway:
    """Start a worker as xdist does."""
    return group.makegateway(f"execmodel=main_thread_only//{server.spec}")


def test_workers_are_forked_from_one_process_with_the_modules(modules: Path) -> None:
    """Each is a process of its own, with the environment of the controller and the arguments of `python -c`."""
    group = execnet.Group()
    with serving("marked_module", below=modules / "scratch") as server:
        first, second = (worker(group, server).remote_exec(SAYS).receive(60) for _ in range(2))
        group.terminate(10)
    assert first[0] != second[0]
    assert first[1] == second[1] == server._process.pid
    assert first[2:] == second[2:] == (True, "value", ["-c"])


def test_a_stack_that_cannot_be_imported_has_workers_that_import_it(modules: Path) -> None:
    """They are interpreters that execnet starts, and no module is loaded."""
    group = execnet.Group()
    with serving("marked_module", "broken_module", below=modules / "scratch") as server:
        pid, parent, loaded, _, _ = worker(group, server).remote_exec(SAYS).receive(60)
        group.terminate(10)
    assert (parent, loaded) == (os.getpid(), False)
    assert pid != server._process.pid


def test_a_worker_ends_with_its_server(modules: Path) -> None:
    """So the workers of a killed session end: the server ends with the session."""
    group = execnet.Group()
    with serving("marked_module", below=modules / "scratch") as server:
        pid = worker(group, server).remote_exec(SAYS).receive(60)[0]
    until = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()
    group.terminate(10)


def test_only_this_user_may_send_to_the_socket(modules: Path) -> None:
    """What a client sends is executed."""
    with serving("marked_module", below=modules / "scratch"):
        (place,) = (modules / "scratch").iterdir()
        assert place.stat().st_mode & 0o777 == 0o700
