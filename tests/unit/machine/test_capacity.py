"""Dividing a machine among stacks."""

from __future__ import annotations

from pathlib import Path

import pytest
from finetune_compat.machine import capacity
from finetune_compat.machine.capacity import CELL_BYTES, Machine, Share, at_once, share
from hypothesis import given
from hypothesis import strategies as st


@given(
    st.integers(1, 128),
    st.integers(0, 2**40),
    st.integers(0, 8),
    st.integers(0, 200),
    st.none() | st.integers(1, 300),
)
def test_no_machine_is_given_more_than_it_has(
    cores: int, memory: int, gpus: int, stacks: int, asked: int | None
) -> None:
    """There is at least one stack and one thread, at most the given stacks, and by default no more than fit."""
    found = share(Machine(cores, memory, gpus), stacks, asked=asked)
    assert 1 <= found.jobs <= max(stacks, 1) and found.threads >= 1
    if asked is None:
        assert found.jobs == 1 or (found.jobs <= cores and found.jobs * CELL_BYTES <= memory)
        assert found.jobs * found.threads <= cores or found.threads == 1


def test_one_stack_a_core_and_no_more_than_there_is_memory_for() -> None:
    """The remaining cores become threads."""
    assert share(Machine(cores=8, memory=100 * CELL_BYTES), 61) == Share(jobs=8, threads=1)
    assert share(Machine(cores=8, memory=3 * CELL_BYTES), 61) == Share(jobs=3, threads=2)
    assert share(Machine(cores=8, memory=0), 61) == Share(jobs=1, threads=8)


def test_with_gpus_stacks_run_one_after_another() -> None:
    """Parallel sessions would choose the same GPUs."""
    assert share(Machine(cores=16, memory=100 * CELL_BYTES, gpus=4), 61) == Share(jobs=1, threads=4)


def test_a_requested_number_is_used() -> None:
    """There are never more sessions than stacks."""
    assert share(Machine(cores=2, memory=CELL_BYTES), 61, asked=5).jobs == 5
    assert share(Machine(cores=2, memory=CELL_BYTES), 3, asked=5).jobs == 3


def test_workers_are_as_many_as_stacks_would_be() -> None:
    """Each takes a core and a gigabyte, unless a number is given; with GPUs every stack has a worker for each
    of them.
    """
    assert at_once(Machine(cores=8, memory=100 * CELL_BYTES)) == 8
    assert at_once(Machine(cores=8, memory=3 * CELL_BYTES)) == 3
    assert at_once(Machine(cores=8, memory=0)) == 1
    assert at_once(Machine(cores=8, memory=0), asked=5) == 5
    assert at_once(Machine(cores=8, memory=100 * CELL_BYTES, gpus=2)) == 1


def test_a_containers_limit_counts(tmp_path: Path) -> None:
    """Memory in use counts against it, except the file cache, which can be freed."""
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 200\n")
    assert capacity._left_in_cgroup(tmp_path) == 500
    (tmp_path / "memory.max").write_text("max\n")
    assert capacity._left_in_cgroup(tmp_path) == capacity._left_in_cgroup(tmp_path / "none")


@pytest.mark.parametrize(
    ("text", "cores"), [("200000 100000\n", 2), ("150000 100000\n", 2), ("10000 100000\n", 1), ("max 100000\n", None)]
)
def test_a_containers_share_of_the_cores_counts(tmp_path: Path, text: str, cores: int | None) -> None:
    """A container sees all cores of its machine and is throttled beyond its share."""
    unlimited = capacity._quota(tmp_path / "none")
    (tmp_path / "cpu.max").write_text(text)
    assert capacity._quota(tmp_path) == (unlimited if cores is None else cores)


@pytest.mark.parametrize(
    ("text", "free"), [("MemTotal: 9 kB\nMemAvailable:    7 kB\n", 7168), ("MemTotal: 9 kB\n", None)]
)
def test_free_memory_is_what_the_kernel_could_give(tmp_path: Path, text: str, free: int | None) -> None:
    """Without the value, no limit is known."""
    (tmp_path / "meminfo").write_text(text)
    unknown = capacity._available(tmp_path / "none")
    assert capacity._available(tmp_path / "meminfo") == (unknown if free is None else free)
