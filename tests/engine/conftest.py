"""A Ray cluster of several node processes on this machine, and environments in which cells take half a second."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
from finetune_compat.contract.records import DeviceKind
from finetune_compat.machine.places import PACKAGE
from finetune_compat.stacks.environments import _Stamp, python_of
from finetune_compat.stacks.locks import Lock, locked
from finetune_compat.stacks.matrix import read_matrix

HERE = Path(__file__).parent
STACKS = ("trl0.24", "trl0.25", "trl0.26", "trl0.27", "trl0.28", "trl0.29")
MEMORY = 80_000_000
"""Bytes of a node's object store: what passes through it is small."""


PASSED = ("--pass-env", "STAND_IN_LOG", "--pass-env", "STAND_IN_NODE")
"""The stand-in needs them, and cells get no other variables."""


@dataclass
class Nodes:
    """The cluster, and what its nodes have in common with the process that asks."""

    cluster: Any
    folder: Path
    environ: dict[str, str]
    nodes: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, **environ: str) -> None:
        """Add a node with one core and an own store."""
        own = {"COMPAT_STORE": str(self.folder / f"store-{name}"), "STAND_IN_NODE": name}
        self.nodes[name] = self.cluster.add_node(
            num_cpus=1, object_store_memory=MEMORY, env_vars={**self.environ, **own, **environ}
        )

    def kill(self, name: str) -> None:
        """Kill a node as a lost machine is: its processes get no chance to say anything."""
        self.cluster.remove_node(self.nodes.pop(name), allow_graceful=False)

    def log(self) -> list[tuple[str, str, str]]:
        """Return what began and ended: the event, the cell and the node."""
        path = self.folder / "log.txt"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [(event, cell, node) for event, cell, node in (line.split(" ") for line in lines)]

    def run(self, runs: Path, *arguments: str) -> subprocess.Popen[str]:
        """Start `compat run` on the cluster. The asking machine has a store of its own in `runs`."""
        environ = {**os.environ, **self.environ, "COMPAT_STORE": str(runs / "store"), "COMPAT_OUT": str(runs / "out")}
        filters = (*STACKS, "--flows", "sft-full", "--device", "cpu")
        command = ("run", *filters, *PASSED, "--engine", "ray", "--address", self.cluster.address, *arguments)
        return subprocess.Popen(
            [sys.executable, "-m", "finetune_compat", *command],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def _environment(lock: Lock, envs: Path) -> None:
    """Make an environment that equals `lock`, whose interpreter runs the stand-in."""
    python = python_of(lock, envs)
    site = python.parent.parent / "lib" / "python3.11" / "site-packages"
    python.parent.mkdir(parents=True)
    for name, version in {**lock.requirements, "torch": lock.facts["torch"]}.items():
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (python.parent.parent / "pyvenv.cfg").write_text("version_info = 3.11.7\n")
    stamp = json.dumps(asdict(_Stamp(lock.sha256, lock.facts["torch"], None)))
    (python.parent.parent / "compat-stamp.json").write_text(stamp)
    path = os.pathsep.join(map(str, (PACKAGE.parent, HERE.parent / "unit")))
    python.write_text(f'#!/bin/sh\nPYTHONPATH={path} exec {sys.executable} {HERE / "stand_in.py"} "$@"\n')
    python.chmod(0o755)


@pytest.fixture(scope="session")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Environments of all stacks."""
    matrix, envs = read_matrix(), tmp_path_factory.mktemp("environments")
    for name in STACKS:
        lock = locked(matrix.plan(matrix.stack(name), "3.11", DeviceKind.CPU))
        assert isinstance(lock, Lock)
        _environment(lock, envs)
    return envs


@pytest.fixture(scope="session")
def _cluster(tmp_path_factory: pytest.TempPathFactory, environments: Path) -> Iterator[Nodes]:
    """Return a cluster whose head runs nothing. It takes seconds to start."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": MEMORY}
    cluster, folder = Cluster(initialize_head=True, head_node_args=head), tmp_path_factory.mktemp("cluster")
    environ = {"COMPAT_ENVIRONMENTS": str(environments), "STAND_IN_LOG": str(folder / "log.txt")}
    try:
        yield Nodes(cluster, folder, environ)
    finally:
        cluster.shutdown()


@pytest.fixture
def nodes(_cluster: Nodes) -> Nodes:
    """Return the cluster with two nodes, and an empty log."""
    for name in _cluster.nodes.keys() - {"one", "two"}:
        _cluster.kill(name)
    for name in ("one", "two"):
        if name not in _cluster.nodes:
            _cluster.add(name)
    (_cluster.folder / "log.txt").unlink(missing_ok=True)
    return _cluster


@pytest.fixture
def other_package(tmp_path: Path) -> Callable[[], Path]:
    """Return a function that makes a copy of the package in which one comment differs, and returns its folder."""

    def make() -> Path:
        folder = tmp_path / "other"
        shutil.copytree(PACKAGE, folder / "finetune_compat", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(PACKAGE.parents[1] / "matrices", folder / "finetune_compat" / "data" / "matrices")
        with (folder / "finetune_compat" / "cell" / "runner.py").open("a", encoding="utf-8") as file:
            file.write("# another commit\n")
        return folder

    return make
