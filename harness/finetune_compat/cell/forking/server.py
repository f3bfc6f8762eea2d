"""Import a stack once, and fork its workers: `python -P -m finetune_compat.cell.forking.server FD MODULE...`.

FD is a listening socket. A client sends its streams, and the worker that is forked for it reads execnet's bootstrap
from them. The server has one thread and uses nothing of the stack, so a forked worker is as if it had imported the
modules itself. Where a module cannot be imported, or starts a thread, every client is refused: its cells then meet the
error in a process of their own.
"""

from __future__ import annotations

import gc
import importlib
import os
import random
import socket
import sys
import types
from collections.abc import Iterable, Sequence
from pathlib import Path

from finetune_compat.cell.forking.client import FORKED, REFUSED, STREAMS
from finetune_compat.machine import child_processes

_FORK_SAFE = ("jemalloc_bg_thd",)
"""The thread of pyarrow's allocator. jemalloc stops it before a fork, and starts it again in both processes."""


def problem_with(modules: Iterable[str]) -> str:
    """Import `modules` in this order; return why a process that did so must not fork, or nothing."""
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - whatever a broken stack raises
            return f"{name} cannot be imported: {type(error).__name__}"
    threads = _threads()[1:]
    return f"it has further threads: {', '.join(threads)}" if threads else ""


def _threads() -> list[str]:
    """The names of this process's threads, without those that a fork does no harm."""
    names = [(task / "comm").read_text(encoding="utf-8").strip() for task in Path("/proc/self/task").iterdir()]
    return [name for name in names if name not in _FORK_SAFE]


def serve(listener: socket.socket, *, refuse: bool) -> None:
    """Answer one client after another. Does not return, except in a forked worker, at its end."""
    while True:
        client, _ = listener.accept()
        with client:
            _, streams, _, _ = socket.recv_fds(client, 1, len(STREAMS))
            if len(streams) == len(STREAMS):
                if not refuse and not os.fork():
                    listener.close()
                    client.sendall(FORKED)
                    work(streams)
                    return
                if refuse:
                    client.sendall(REFUSED)
            for stream in streams:
                os.close(stream)


def work(streams: Sequence[int]) -> None:
    """Be a new interpreter with these streams, as execnet starts it, until the worker's end."""
    child_processes.end_with_parent()
    for stream, own in zip(streams, STREAMS, strict=True):
        os.dup2(stream, own)
        os.close(stream)
    random.seed()  # an interpreter that has just started is in no known state
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    sys.argv = ["-c"]
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    exec(eval(sys.stdin.readline()), main.__dict__)  # noqa: S102, S307 - execnet's bootstrap is `exec(eval(line))`


def main(arguments: Sequence[str]) -> None:
    """Serve the socket of `arguments` until the parent process ends this one."""
    child_processes.end_with_parent()
    child_processes.adopt()
    with socket.socket(fileno=int(arguments[0])) as listener:
        problem = problem_with(arguments[1:])
        if problem:
            print(f"each worker imports the stack: {problem}", file=sys.stderr, flush=True)
        gc.collect()
        gc.freeze()  # a collection would write to every page that the processes share
        serve(listener, refuse=bool(problem))


if __name__ == "__main__":
    main(sys.argv[1:])
