"""What stands in for a worker's interpreter: it lends its streams, or becomes the interpreter."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from finetune_compat.cell.forking import client

BOOTSTRAP = ("-u", "-c", "import sys; print('interpreter', sys.stdin.readline().strip())")


def started(place: Path) -> subprocess.Popen[str]:
    """Start the client as execnet does."""
    command = [sys.executable, "-I", "-S", str(client.__file__), str(place), *BOOTSTRAP]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def answering(place: Path, answer: Callable[[socket.socket], None]) -> threading.Thread:
    """Listen in `place`, and answer one client in a thread."""
    folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(client.address(folder))
    listener.listen()
    os.close(folder)

    def serve() -> None:
        with listener:
            connection, _ = listener.accept()
            with connection:
                answer(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def refused(connection: socket.socket) -> None:
    """Answer as a server that cannot fork."""
    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    connection.sendall(client.REFUSED)
    for stream in streams:
        os.close(stream)


def silent(connection: socket.socket) -> None:
    """Answer as a server that crashed while it imported the stack."""
    connection.recv(1)


@pytest.mark.parametrize("answer", [refused, silent, None])
def test_where_nothing_is_forked_it_is_the_interpreter_that_was_asked_for(
    tmp_path: Path, answer: Callable[[socket.socket], None] | None
) -> None:
    """Its streams are those of execnet. This holds for a refusal, a server that has ended, and none at all."""
    thread = answering(tmp_path, answer) if answer else None
    with started(tmp_path) as process:
        said, _ = process.communicate("asked\n", timeout=60)
    assert (said, process.returncode) == ("interpreter asked\n", 0)
    if thread:
        thread.join()


def test_the_worker_has_its_streams_and_it_ends_with_the_worker(tmp_path: Path) -> None:
    """The output ends when the worker closes it: xdist notices a lost worker by that."""
    over = threading.Event()

    def forked(connection: socket.socket) -> None:
        _, streams, _, _ = socket.recv_fds(connection, 1, 3)
        connection.sendall(client.FORKED)
        said = os.read(streams[0], 100)
        os.write(streams[1], b"worker " + said)
        for stream in streams:
            os.close(stream)
        over.wait(60)

    thread = answering(tmp_path, forked)
    with started(tmp_path) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("asked\n")
        process.stdin.flush()
        assert process.stdout.read() == "worker asked\n"
        assert process.poll() is None
        over.set()
        assert process.wait(60) == 0
    thread.join()


def test_a_long_path_is_no_problem(tmp_path: Path) -> None:
    """The address of a socket is limited to 107 bytes, and the scratch folder of a run may be longer."""
    place = tmp_path / ("x" * 120)
    place.mkdir()
    thread = answering(place, refused)
    with started(place) as process:
        assert process.communicate("asked\n", timeout=60)[0] == "interpreter asked\n"
    thread.join()
