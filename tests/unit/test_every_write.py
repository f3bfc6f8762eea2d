"""Commands that write files, with a full disk, an error or a signal at each of their writes, one after the other.

Every file is then as before or complete, and no command claims success. Each attempt runs in a forked process.
"""

from __future__ import annotations

import errno
import gzip
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import builders as b
import pytest
from builders import NF4
from finetune_compat import cli
from finetune_compat.contract.errors import ExitCode
from finetune_compat.contract.plan import PlannedCell
from finetune_compat.store import archive, stored_files
from finetune_compat.store.store import Store
from store_builders import planned, recipe_of, seen, store, stored_object

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
MOST = 60
"""More writes than a command has."""

InPlaces = Callable[..., object]
Command = Callable[[Path, InPlaces], list[str]]


def _run(folder: Path) -> Path:
    cell = PlannedCell("sft-peft-config", NF4, (), recipe=recipe_of(seen()))
    path = b.stored(folder / "runs" / "20260101T000000Z-abcd", [b.ran(seen())], seen())
    (path / "plans").mkdir()
    (path / "plans" / f"{seen().stack.name}.json").write_text(planned(path, cell).to_json())
    return path


def export(folder: Path, _: InPlaces) -> list[str]:
    """Pack a run and its stored cells."""
    path = _run(folder)
    stored_files.write(store().root, stored_object())
    return ["store", "export", str(folder / "out.tar.gz"), "--run", str(path)]


def take(folder: Path, in_places: InPlaces) -> list[str]:
    """Read an archive into an empty store and a directory without runs."""
    path = _run(folder / "elsewhere")
    other = Store(folder / "elsewhere" / "store")
    stored_files.write(other.root, stored_object())
    archive.export(path, other, folder / "in.tar.gz")
    in_places(runs=folder / "taken", store=folder / "store")
    return ["store", "import", str(folder / "in.tar.gz")]


def report(folder: Path, _: InPlaces) -> list[str]:
    """Write all files that are derived from a run, over those of an earlier report."""
    path = _run(folder)
    for name in ("summary.md", "junit.xml", "results.json"):
        (path / name).write_text("earlier")
    return ["report", str(path), "--html", str(folder / "page.html")]


def attempt(words: list[str], fault: Callable[[], None], number: int, output: Path) -> tuple[int, bool]:
    """Run the command with `fault` at its write `number`: exit code or minus the signal, and whether it had one."""
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        os.close(reads)
        left = [number]

        def heard(event: str, arguments: tuple[object, ...]) -> None:
            opens = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES
            if not (opens or event in ("os.rename", "os.link")) or "/dev/" in str(arguments[0]):
                return
            left[0] -= 1
            if left[0] == -1:
                os.write(writes, b"x")
                fault()

        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(file, stream)
        sys.stdout, sys.stderr = (open(stream, "w", buffering=1, closefd=False) for stream in (1, 2))  # noqa: SIM115
        sys.addaudithook(heard)
        try:
            cli.main(words)
        except SystemExit as ended:
            os._exit(ended.code if isinstance(ended.code, int) else 1)
        except BaseException as error:  # noqa: BLE001 - a traceback is what this looks for
            sys.stderr.write(f"Traceback {error!r}")
            os._exit(99)
    os.close(writes)
    status = os.waitpid(child, 0)[1]
    with os.fdopen(reads, "rb") as pipe:
        return os.waitstatus_to_exitcode(status), bool(pipe.read())


def full() -> None:
    """The disk is full."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def files(folder: Path) -> dict[str, bytes]:
    """Every file of `folder`, without those that a killed process was just writing."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".lock"))
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in found
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


@pytest.mark.parametrize("command", [export, take, report])
@pytest.mark.parametrize(
    ("fault", "codes"),
    [
        (full, {ExitCode.COULD_NOT_TELL}),
        (lambda: os.kill(os.getpid(), signal.SIGINT), {130}),
        (lambda: os.kill(os.getpid(), signal.SIGTERM), {143, -signal.SIGTERM}),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), {-signal.SIGKILL}),
    ],
    ids=["disk full", "SIGINT", "SIGTERM", "SIGKILL"],
)
def test_a_fault_at_any_write_tears_no_file_and_is_no_success(
    tmp_path: Path, in_places: InPlaces, command: Command, fault: Callable[[], None], codes: set[int]
) -> None:
    whole = tmp_path / "without"  # as long as the other name: it is part of some files
    words = command(whole, in_places)
    before = files(whole)
    code, _ = attempt(words, lambda: None, MOST, tmp_path / "out")
    assert code == 0, (tmp_path / "out").read_text()
    after = files(whole)
    reached = 0
    for number in range(MOST):
        folder = tmp_path / "attempt"
        words = command(folder, in_places)
        code, came = attempt(words, fault, number, tmp_path / "out")
        said = (tmp_path / "out").read_text()
        if not came:
            break
        reached += 1
        assert code in codes, (number, said)
        assert "Traceback" not in said
        if fault is full:
            assert "No space left on device" in said and not list(folder.rglob(".part-*"))
        for name, content in files(folder).items():
            if name.endswith(".gz"):
                gzip.decompress(content)  # an error if it was cut off
            else:
                assert len(content) in {len(side[name]) for side in (before, after) if name in side}, (number, name)
        folder.rename(tmp_path / f"done-{number}")
    assert 0 < reached < MOST
