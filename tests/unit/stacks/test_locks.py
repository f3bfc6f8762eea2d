"""Locks: writing them, reading them, and refusing invalid ones. The resolver is a stand-in."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from finetune_compat.contract.errors import ExitCode, LockError
from finetune_compat.machine.places import PACKAGE, places
from finetune_compat.stacks import locks
from finetune_compat.stacks.locks import (
    AT_ONCE,
    Lock,
    Outcome,
    Unsolvable,
    drop_orphans,
    exit_code,
    locked,
    make_locks,
    read_lock,
    summary,
)
from finetune_compat.stacks.matrix import LockPlan, parse_matrix, read_matrix
from finetune_compat.stacks.uv_tool import Answer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stack_builders import BODY, HASH, NO_SOLUTION, document, lock_plan, row

UNREACHABLE = "error: Request failed after 3 retries in 4.9s\n  cause: error sending request for url (https://x/)"


@pytest.fixture
def uv(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], list[Sequence[str]]]:
    """Make the resolver give this answer; return the list of its arguments."""

    def answer_with(answer: Answer) -> list[Sequence[str]]:
        asked: list[Sequence[str]] = []

        def run(arguments: Sequence[str], *, environ: object, stdin: str) -> Answer:
            asked.append([*arguments, "<", *stdin.split()])
            return answer

        monkeypatch.setattr(locks, "run_uv", run)
        return asked

    return answer_with


def make(folder: Path, *plans: LockPlan) -> tuple[list[str], ExitCode]:
    """Make locks in `folder`; return the printed lines and the exit code."""
    lines: list[str] = []
    results = make_locks(plans or (lock_plan(),), lines.append, folder)
    return [*lines, summary(results)], exit_code(results)


class TestMaking:
    def test_the_resolver_gets_the_end_of_the_day_in_utc(self, uv: Any, tmp_path: Path) -> None:
        """A date alone would mean the machine's time zone; exempt packages have their own day."""
        asked = uv(Answer(0, BODY, ""))
        make(tmp_path)
        (arguments,) = asked
        assert arguments[arguments.index("--exclude-newer") + 1] == "2025-09-04T00:00:00Z"
        assert arguments[arguments.index("--exclude-newer-package") + 1] == "torch=2026-07-09T00:00:00Z"
        assert arguments[arguments.index("<") + 1 :] == [
            "trl==0.22.2",
            "transformers",
            "bitsandbytes",
            "pytest",
            "torch==2.13.0",
        ]

    def test_torch_is_resolved_but_not_locked_and_nothing_is_built(self, uv: Any, tmp_path: Path) -> None:
        """Other packages must fit torch, but its build belongs to the machine, as would anything built there."""
        asked = uv(Answer(0, BODY, ""))
        make(tmp_path)
        assert asked[0][asked[0].index("--no-emit-package") + 1] == "torch"
        assert "--no-build" in asked[0] and "--generate-hashes" in asked[0]

    def test_a_lock_states_its_request_and_how_to_make_it_again(self, uv: Any, tmp_path: Path) -> None:
        """The test has the whole header."""
        uv(Answer(0, BODY, ""))
        assert make(tmp_path) == (
            ["[1/1] trl0.22-py311: locked, 2 packages as of 2025-09-03", "1 locked"],
            ExitCode.HEALTHY,
        )
        assert (tmp_path / "trl0.22-py311.txt").read_text().partition("trl==0.22.2 \\")[0] == (
            "# Made by `nox -s lock`, from matrices/stacks.toml. Never edited by hand.\n"
            "# lock: trl0.22-py311\n"
            "# stack: trl0.22\n"
            "# python: 3.11\n"
            "# platform: x86_64-manylinux_2_28\n"
            "# as-of: 2025-09-03\n"
            "# torch: 2.13.0\n"
            "# asked: trl==0.22.2 transformers bitsandbytes pytest\n"
            "# exempt: torch<=2026-07-08\n"
            "# excluded: triton\n"
            "# again: nox -s lock -- trl0.22\n"
            "# packages: 2\n"
        )

    def test_making_a_lock_again_changes_no_byte(self, uv: Any, tmp_path: Path) -> None:
        """The second time the lock is unchanged, and no other file is in the folder."""
        uv(Answer(0, BODY, ""))
        make(tmp_path)
        before = (tmp_path / "trl0.22-py311.txt").read_bytes()
        assert make(tmp_path)[0][-1] == "1 unchanged"
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"trl0.22-py311.txt": before}

    def test_an_unsolvable_row_has_the_resolvers_reason_and_is_new_once(self, uv: Any, tmp_path: Path) -> None:
        """The first time the command fails; afterwards the row is known."""
        uv(Answer(1, "", NO_SOLUTION))
        said = "Because trl==0.22.2 depends on transformers>=4.55.0 and you require transformers<4.55.0"
        assert make(tmp_path) == (
            [f"[1/1] trl0.22-py311: newly unsolvable, {said}", "1 newly unsolvable"],
            ExitCode.ENVIRONMENT,
        )
        assert make(tmp_path)[1] is ExitCode.HEALTHY
        found = locked(lock_plan(), tmp_path)
        assert isinstance(found, Unsolvable)
        assert (found.reason, found.cause) == (NO_SOLUTION, said)

    def test_a_row_that_lost_its_solution_loses_its_lock(self, uv: Any, tmp_path: Path) -> None:
        """A row has exactly one of the two files, in both directions."""
        uv(Answer(0, BODY, ""))
        make(tmp_path)
        uv(Answer(1, "", NO_SOLUTION))
        assert make(tmp_path)[1] is ExitCode.ENVIRONMENT
        assert [path.name for path in tmp_path.iterdir()] == ["trl0.22-py311.unsolvable.txt"]
        uv(Answer(0, BODY, ""))
        assert make(tmp_path)[1] is ExitCode.HEALTHY
        assert [path.name for path in tmp_path.iterdir()] == ["trl0.22-py311.txt"]

    @pytest.mark.parametrize(
        "complaint",
        [
            UNREACHABLE,
            NO_SOLUTION + "\nhint: Packages were unavailable because the network was disabled.",
            "error: No space left on device (os error 28)",
        ],
    )
    def test_an_infrastructure_failure_changes_nothing(self, uv: Any, tmp_path: Path, complaint: str) -> None:
        """The committed lock is unchanged, and the command reports the failure."""
        uv(Answer(0, BODY, ""))
        make(tmp_path)
        before = (tmp_path / "trl0.22-py311.txt").read_bytes()
        uv(Answer(2, "", complaint))
        lines, code = make(tmp_path)
        assert (lines[-1], code) == ("1 not resolved, nothing written", ExitCode.COULD_NOT_TELL)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"trl0.22-py311.txt": before}

    def test_one_failure_does_not_stop_the_others(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Every plan is resolved, and progress counts them in the order in which they end."""

        def run(arguments: Sequence[str], *, environ: object, stdin: str) -> Answer:
            return Answer(1, "", NO_SOLUTION) if "0.23.1" in stdin else Answer(0, BODY, "")

        monkeypatch.setattr(locks, "run_uv", run)
        matrix = parse_matrix(document(row(), row(pin="0.23.1"), row(pin="0.24.0")))
        plans = [matrix.plan(stack, "3.11") for stack in matrix.stacks]
        lines, code = make(tmp_path, *plans)
        assert [line[:5] for line in lines[:3]] == ["[1/3]", "[2/3]", "[3/3]"]
        assert (lines[3], code) == ("2 locked, 1 newly unsolvable", ExitCode.ENVIRONMENT)

    def test_a_part_of_torchs_cuda_build_is_never_locked(self, uv: Any, tmp_path: Path) -> None:
        """If the matrix does not exclude it, no lock is written."""
        uv(Answer(0, f"nvidia-nccl-cu14==1.0 \\\n    --hash=sha256:{HASH}\n", ""))
        with pytest.raises(LockError) as caught:
            make(tmp_path)
        assert str(caught.value) == (
            f"{tmp_path}/trl0.22-py311.txt: the lock has packages of torch's CUDA build: nvidia-nccl-cu14\n"
            "This version of torch requires packages that torch.platform does not list.\n"
            "Add them to torch.platform in matrices/stacks.toml."
        )
        assert list(tmp_path.iterdir()) == []

    def test_locks_without_a_row_are_removed(self, uv: Any, tmp_path: Path) -> None:
        """The lock of a removed row is deleted; files that are no locks stay."""
        uv(Answer(0, BODY, ""))
        make(tmp_path)
        (tmp_path / "trl0.1-py311.txt").touch()
        (tmp_path / "README.md").touch()
        assert drop_orphans([lock_plan()], tmp_path) == ("trl0.1-py311.txt",)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "trl0.22-py311.txt"]

    def test_the_outcome_of_every_kind_is_counted(self) -> None:
        """The last line of the command has the counts in a fixed order."""
        results = [locks.Result(lock_plan(), outcome, "") for outcome in Outcome]
        assert summary(results) == (
            "1 unchanged, 1 locked, 1 still unsolvable, 1 newly unsolvable, 1 not resolved, nothing written"
        )
        assert summary([]) == "nothing to do"


def write_lock(folder: Path, body: str = BODY, packages: int = 2, made_for: LockPlan | None = None) -> Path:
    """Write a lock as `make_locks` writes it."""
    path = folder / "trl0.22-py311.txt"
    path.write_text(locks._render(made_for or lock_plan(), body, packages=str(packages)))
    return path


def refusal(path: Path) -> str:
    """Return the message with which `read_lock` refuses `path`."""
    with pytest.raises(LockError) as caught:
        read_lock(path)
    assert caught.value.exit_code is ExitCode.ENVIRONMENT
    return str(caught.value)


def malformed(path: Path, problem: str) -> str:
    """Return the message for an invalid file."""
    return (
        f"{path}: not a lock: {problem}\n"
        "It was edited by hand, or cut off by a merge.\n"
        "Make it again: nox -s lock -- trl0.22"
    )


class TestReading:
    def test_a_lock_is_read_back_with_its_digest_and_its_facts(self, tmp_path: Path) -> None:
        """The digest covers the whole file: a changed hash changes it."""
        path = write_lock(tmp_path)
        found = read_lock(path)
        assert found.requirements == {"trl": "0.22.2", "numpy": "2.3.2"}
        assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert found.facts["as-of"] == "2025-09-03"

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(
        st.dictionaries(
            st.from_regex(r"[a-z0-9]{1,8}(-[a-z0-9]{1,4})?", fullmatch=True),
            st.from_regex(r"[0-9]{1,4}(\.[0-9]{1,3}){0,2}(\.post[0-9])?", fullmatch=True),
            min_size=1,
            max_size=8,
        ),
        st.integers(1, 3),
    )
    def test_what_is_written_is_what_is_read(self, tmp_path: Path, versions: dict[str, str], hashes: int) -> None:
        """This holds for any packages and any number of hashes."""
        lines = " \\\n".join(f"    --hash=sha256:{HASH}" for _ in range(hashes))
        body = "".join(f"{name}=={version} \\\n{lines}\n" for name, version in versions.items())
        assert read_lock(write_lock(tmp_path, body, len(versions))).requirements == versions

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(st.data())
    def test_a_truncated_lock_is_refused(self, tmp_path: Path, data: st.DataObject) -> None:
        """No truncated lock is valid, even if it ends after a whole package."""
        path = write_lock(tmp_path)
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(lines[: data.draw(st.integers(0, len(lines) - 1))]))
        assert refusal(path).startswith(f"{path}: not a lock: ")

    def test_a_missing_lock_says_how_to_make_it(self, tmp_path: Path) -> None:
        """The command has the stack's name, not the file's."""
        assert refusal(tmp_path / "trl0.22-py311-cuda.txt") == (
            f"{tmp_path}/trl0.22-py311-cuda.txt: there is no lock\n"
            "The row was added to the matrix, and its locks were not made yet.\n"
            "Make it: nox -s lock -- trl0.22"
        )

    @pytest.mark.parametrize(
        ("body", "packages", "problem"),
        [
            ("<<<<<<< HEAD\n" + BODY, 2, "line 13 is neither `name==version` nor one of its hashes: '<<<<<<< HEAD'"),
            ("trl>=0.22\n", 1, "line 13 is neither `name==version` nor one of its hashes: 'trl>=0.22'"),
            (
                "trl==0.22.2\nnumpy==2.3.2\n",
                2,
                "line 14 is neither `name==version` nor one of its hashes: 'numpy==2.3.2'",
            ),
            (BODY + BODY, 4, "line 18 repeats a package or has no version: 'trl==0.22.2 \\\\'"),
            ("trl==new\n", 1, "line 13 repeats a package or has no version: 'trl==new'"),
            ("trl==0.22.2\n", 1, "the hashes of its last package are missing or incomplete"),
            (
                "trl==0.22.2 \\\n    --hash=sha256:" + HASH + " \\\n",
                1,
                "the hashes of its last package are missing or incomplete",
            ),
            (BODY, 3, "its header states 3 packages, but it has 2"),
        ],
    )
    def test_a_malformed_lock_is_refused_with_the_line(
        self, tmp_path: Path, body: str, packages: int, problem: str
    ) -> None:
        """A package without a hash is as invalid as a line that is no package."""
        path = write_lock(tmp_path, body, packages)
        assert refusal(path) == malformed(path, problem)

    def test_a_file_of_something_else_is_not_a_lock(self, tmp_path: Path) -> None:
        """The first line identifies a lock."""
        path = tmp_path / "trl0.22-py311.txt"
        path.write_text(BODY)
        assert refusal(path) == malformed(path, "line 1 is not the header of a lock")

    def test_invalid_text_is_not_a_lock(self, tmp_path: Path) -> None:
        """No UnicodeDecodeError is raised."""
        path = tmp_path / "trl0.22-py311.txt"
        path.write_bytes(b"\xff\xfe")
        assert refusal(path).startswith(f"{path}: not a lock: it cannot be read: 'utf-8' codec")

    @pytest.mark.parametrize(
        ("asked", "complaint"),
        [
            (lock_plan(torch="2.14.0"), "its torch is '2.13.0', in the matrix it is '2.14.0'"),
            (lock_plan(as_of=date(2025, 9, 4)), "its as-of is '2025-09-03', in the matrix it is '2025-09-04'"),
            (
                lock_plan(exempt={}),
                "its exempt is 'torch<=2026-07-08', in the matrix it is 'none'",
            ),
        ],
    )
    def test_a_lock_of_an_older_request_is_stale(self, tmp_path: Path, asked: LockPlan, complaint: str) -> None:
        """The message has the difference, and the command that makes the lock again."""
        write_lock(tmp_path)
        with pytest.raises(LockError) as caught:
            locked(asked, tmp_path)
        assert str(caught.value) == (
            f"{tmp_path}/trl0.22-py311.txt: the lock is stale: {complaint}\n"
            "matrices/stacks.toml changed after the lock was made.\n"
            "Make it again: nox -s lock -- trl0.22"
        )

    def test_the_reason_of_an_unsolvable_row_goes_stale_too(self, uv: Any, tmp_path: Path) -> None:
        """It answered an older request."""
        uv(Answer(1, "", NO_SOLUTION))
        make(tmp_path)
        with pytest.raises(
            LockError, match=rf"^{tmp_path}/trl0\.22-py311\.unsolvable\.txt: the lock is stale: its torch is"
        ):
            locked(lock_plan(torch="2.14.0"), tmp_path)


class TestCommittedLocks:
    """The files of matrices/locks/."""

    def test_every_row_has_its_locks_and_every_lock_has_its_row(self) -> None:
        """None is missing, stale or malformed, and none is left over."""
        matrix = read_matrix()
        plans = [plan for stack in matrix.stacks for plan in matrix.plans(stack)]
        found = [locked(plan) for plan in plans]
        assert {item.path for item in found} == set(places().locks.glob("*.txt"))

    def test_every_lock_holds_its_pin_and_nothing_of_torch(self) -> None:
        """torch and its CUDA packages belong to the machine."""
        matrix = read_matrix()
        for stack in matrix.stacks:
            for found in (locked(plan) for plan in matrix.plans(stack)):
                if isinstance(found, Lock):
                    assert not stack.package or found.requirements[stack.package] == stack.pin
                    assert not [
                        name for name in found.requirements if name.startswith(("torch", "nvidia-", "cuda-", "triton"))
                    ]
                    assert found.requirements.keys() >= {*matrix.packages, *matrix.tools}

    def test_no_lock_names_a_path_of_the_machine_it_was_made_on(self) -> None:
        """It has no path and no index except those of the header."""
        for path in places().locks.glob("*.txt"):
            assert not [
                line for line in path.read_text().splitlines() if "file:" in line or line.startswith(("-", "--"))
            ]


def test_a_lock_of_another_matrix_is_stale_for_a_row() -> None:
    """Rows use their committed locks: their header lists constraints only if there are any."""
    matrix = read_matrix()
    assert all("constrained" not in locks.facts_of(plan) for plan in matrix.plans(matrix.stack("trl0.22")))


LOCKS = """
import dataclasses, pathlib, sys
sys.path.insert(0, sys.argv[1])
import uv
uv.find_uv_bin = lambda: sys.argv[2]
from finetune_compat import cli
from finetune_compat.machine import places
places._replaced = dataclasses.replace(places.places(), matrices=pathlib.Path(sys.argv[3]))
cli.main(["lock", "trl0.22", "trl0.23"])
"""
"""`compat lock` with another resolver and another matrix."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_resolver_and_leaves_every_lock_as_it_was(number: signal.Signals, tmp_path: Path) -> None:
    """Resolvers run in threads, several at once, and would go on for minutes."""
    pids, scratch, matrices = (tmp_path / name for name in ("pids", "scratch", "matrices"))
    pids.mkdir()
    scratch.mkdir()
    (matrices / "locks").mkdir(parents=True)
    shutil.copy(places().stacks, matrices)
    names = [path for stack in ("trl0.22-py311", "trl0.23-py311") for path in places().locks.glob(f"{stack}*.txt")]
    for path in names:
        shutil.copy(path, matrices / "locks")
    before = {path.name: path.read_bytes() for path in (matrices / "locks").iterdir()}
    resolver = tmp_path / "uv"
    resolver.write_text(f"#!/bin/sh\ntouch {pids}/$$\nexec sleep 600\n")
    resolver.chmod(0o755)
    command = [sys.executable, "-c", LOCKS, str(PACKAGE.parent), str(resolver), str(matrices)]
    usual = functools.partial(signal.signal, number, signal.SIG_DFL)  # this process may ignore it
    environ = {**os.environ, "TMPDIR": str(scratch)}
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True, preexec_fn=usual) as process:  # noqa: PLW1509 - one thread
        try:
            ends_at = time.monotonic() + 60
            while len(list(pids.iterdir())) < AT_ONCE:
                assert time.monotonic() < ends_at and process.poll() is None
                time.sleep(0.05)
            process.send_signal(number)
            _, error = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, error) == (128 + number, f"interrupted by {number.name}\n")
    assert [path for path in pids.iterdir() if Path(f"/proc/{path.name}").exists()] == []
    assert {path.name: path.read_bytes() for path in (matrices / "locks").iterdir()} == before
    assert list(scratch.iterdir()) == []
