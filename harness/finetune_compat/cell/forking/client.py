"""What execnet starts in place of a worker's interpreter: `python -I -S client.py FOLDER -u -c BOOTSTRAP`.

It hands its streams to the server in FOLDER, which forks the worker, and ends with the worker. Where the server cannot
fork, it becomes the interpreter that execnet asked for. Standard library only, and nothing of this package.
"""

import os
import socket
import sys

FORKED = b"f"
"""The server's answer to a client whose worker it forked."""

REFUSED = b"r"
"""The server's answer to a client that must start an interpreter."""

STREAMS = (0, 1, 2)
"""File descriptors that a client hands over."""


def address(folder: int) -> str:
    """The path of the socket in the open directory `folder`. It is short: an address is limited to 107 bytes."""
    return f"/proc/self/fd/{folder}/socket"


def handed_over(place: str) -> bool:
    """Hand this process's streams to the server in the directory `place`.

    Returns:
        True after the end of the worker that has these streams; False if the server forks none.
    """
    folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.connect(address(folder))
            socket.send_fds(server, [b"s"], STREAMS)
            if server.recv(1) != FORKED:
                return False
            _release()
            server.recv(1)  # nothing comes: the connection ends with the worker
    except OSError:  # the server has ended, before it answered
        return False
    finally:
        os.close(folder)
    return True


def _release() -> None:
    """Let go of the streams: xdist's controller notices the end of a worker by the end of its output."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in STREAMS[:2]:
        os.dup2(nothing, stream)
    os.close(nothing)


if __name__ == "__main__" and not handed_over(sys.argv[1]):
    os.execv(sys.executable, [sys.executable, *sys.argv[2:]])  # noqa: S606 - as execnet would, without a shell
