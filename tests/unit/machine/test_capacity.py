"""How a machine is shared out."""

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
    """At least one stack and one thread; never more stacks than there are; without being told, no more than fit."""
    found = share(Machine(cores, memory, gpus), stacks, asked=asked)
    assert 1 <= found.jobs <= max(stacks, 1) and found.threads >= 1
    if asked is None:
        assert found.jobs == 1 or (found.jobs <= cores and found.jobs * CELL_BYTES <= memory)
        assert found.jobs * found.threads <= cores or found.threads == 1


def test_one_stack_a_core_and_no_more_than_there_is_memory_for() -> None:
    """Threads are what is left of the cores."""
    assert share(Machine(cores=8, memory=100 * CELL_BYTES), 61) == Share(jobs=8, threads=1)
    assert share(Machine(cores=8, memory=3 * CELL_BYTES), 61) == Share(jobs=3, threads=2)
    assert share(Machine(cores=8, memory=0), 61) == Share(jobs=1, threads=8)


def test_with_gpus_one_stack_has_all_of_them() -> None:
    """Sessions side by side would choose the same ones."""
    assert share(Machine(cores=16, memory=100 * CELL_BYTES, gpus=4), 61) == Share(jobs=1, threads=4)


def test_what_is_asked_for_is_given() -> None:
    """But never more sessions than stacks."""
    assert share(Machine(cores=2, memory=CELL_BYTES), 61, asked=5).jobs == 5
    assert share(Machine(cores=2, memory=CELL_BYTES), 3, asked=5).jobs == 3


def test_workers_are_as_many_as_stacks_would_be() -> None:
    """A core and a gigabyte each, or what was asked for; with GPUs every stack has a worker for each of them anyway."""
    assert at_once(Machine(cores=8, memory=100 * CELL_BYTES)) == 8
    assert at_once(Machine(cores=8, memory=3 * CELL_BYTES)) == 3
    assert at_once(Machine(cores=8, memory=0)) == 1
    assert at_once(Machine(cores=8, memory=0), asked=5) == 5
    assert at_once(Machine(cores=8, memory=100 * CELL_BYTES, gpus=2)) == 1


def test_a_containers_limit_counts(tmp_path: Path) -> None:
    """What is used counts against it, but for the file cache, which can be made free."""
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
    """It sees all of its machine's, and is throttled when it uses them."""
    unlimited = capacity._quota(tmp_path / "none")
    (tmp_path / "cpu.max").write_text(text)
    assert capacity._quota(tmp_path) == (unlimited if cores is None else cores)


@pytest.mark.parametrize(
    ("text", "free"), [("MemTotal: 9 kB\nMemAvailable:    7 kB\n", 7168), ("MemTotal: 9 kB\n", None)]
)
def test_free_memory_is_what_the_kernel_could_give(tmp_path: Path, text: str, free: int | None) -> None:
    """Where it does not say, no limit is known."""
    (tmp_path / "meminfo").write_text(text)
    unknown = capacity._available(tmp_path / "none")
    assert capacity._available(tmp_path / "meminfo") == (unknown if free is None else free)
