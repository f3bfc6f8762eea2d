"""A GPU for each worker."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from finetune_compat.cell.gpus import GPU, Gpus


def node(name: str) -> SimpleNamespace:
    """A worker as xdist's controller represents it."""
    return SimpleNamespace(gateway=SimpleNamespace(id=name), workerinput={})


def given(gpus: Gpus, name: str) -> str:
    """Return the GPU that a new worker gets."""
    worker = node(name)
    gpus.pytest_configure_node(worker)
    return str(worker.workerinput[GPU])


def test_each_worker_has_its_own_gpu(tmp_path: Path) -> None:
    """They are given in the order of choice; with more workers than GPUs they are shared in turn."""
    gpus = Gpus(["GPU-5f", "MIG-6a"], tmp_path / "gpus")
    assert [given(gpus, f"gw{number}") for number in range(4)] == ["GPU-5f", "MIG-6a", "GPU-5f", "MIG-6a"]


@pytest.mark.parametrize("lost", [0, 1])
def test_a_replaced_worker_leaves_its_gpu_to_its_replacement(lost: int, tmp_path: Path) -> None:
    """The replacement's number is new: counting in turn, one GPU would have two workers and the other none."""
    gpus = Gpus(["4", "5"], tmp_path)
    first = [given(gpus, "gw0"), given(gpus, "gw1")]
    gpus.pytest_testnodedown(node(f"gw{lost}"))
    assert given(gpus, "gw2") == first[lost]


def test_sessions_of_a_run_share_the_gpus_evenly(tmp_path: Path) -> None:
    """The second session does not begin with the GPU of the first. What a session held is free after it."""
    first, second = Gpus(["4", "5"], tmp_path), Gpus(["4", "5"], tmp_path)
    assert [given(first, "gw0"), given(second, "gw0"), given(second, "gw1")] == ["4", "5", "4"]
    second.pytest_testnodedown(node("gw0"))
    assert given(first, "gw1") == "5"
