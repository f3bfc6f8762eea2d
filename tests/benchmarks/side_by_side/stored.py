"""Stores as large as after a run of the matrix: the committed baseline's observations under today's addresses.

python -m side_by_side.stored fill          make environments of files only for every stack, and fill the store; in a
                                            copy of the checkout that is removed afterwards
python -m side_by_side.stored look STORE N  seconds to find N addresses, and to read their observations

Simulated: no cell ran, and the environments hold no package. Real: the addresses, which are calculated from the locks
and the sources, and the number and size of the files.
"""

from __future__ import annotations

import datetime
import gzip
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from finetune_compat.checks.ledger import Ledger
from finetune_compat.contract.options import DeviceChoice
from finetune_compat.contract.recipe import Recipe
from finetune_compat.contract.records import DeviceKind
from finetune_compat.contract.version import __version__
from finetune_compat.machine.gpus import Gpu
from finetune_compat.machine.places import PACKAGE, places
from finetune_compat.run.options import RunOptions
from finetune_compat.run.request import RunRequest, env_python
from finetune_compat.run.selection import AskedCells, On, stacks_of
from finetune_compat.run.stack_run import plan_of
from finetune_compat.stacks.locks import Lock, Unsolvable, locked
from finetune_compat.stacks.matrix import read_matrix
from finetune_compat.store import stored_files
from finetune_compat.store.addresses import installed, recipes
from finetune_compat.store.store import Store
from finetune_compat.store.stored_files import Stored

BASELINES = places().baselines
ROOT = PACKAGE.parents[1]

REPEATS = 5
NO_GPU: tuple[Gpu, ...] = ()


def fill(root: Path) -> int:
    """Make environments of files only in this checkout and fill the store at `root`; return the number of its cells."""
    lines = baseline()
    number = 0
    for on, lock in _stacks():
        python = fake_environment(on)
        options = RunOptions(device=DeviceChoice.CPU)
        plan = plan_of(on.name, lock, options, Ledger(issues=()), DeviceKind.CPU, base_torch=False)
        for cell, recipe in recipes(plan, installed(python, lock), NO_GPU).items():
            if cell in lines:
                stored_files.write(root, _stored(recipe, lines[cell]))
                number += 1
    return number


def fake_environment(on: On, environments: Path = ROOT / ".nox") -> Path:
    """Write what is read of an existing environment: its configuration, and the presence of torch."""
    python = env_python(on, environments)
    site = python.parent.parent / f"lib/python{on.python}/site-packages"
    for folder in (python.parent, site / "torch", site / f"torch-{read_matrix().torch}+cpu.dist-info"):
        folder.mkdir(parents=True, exist_ok=True)
    python.touch()
    (python.parent.parent / "pyvenv.cfg").write_text(f"version_info = {platform.python_version()}\n", encoding="utf-8")
    return python


def baseline() -> dict[str, str]:
    """The lines of the committed baseline, by cell."""
    packed = (BASELINES / "cpu" / "observations.jsonl.gz").read_bytes()
    kept = [line for line in gzip.decompress(packed).decode().splitlines() if '"started":' not in line]
    return {str(json.loads(line)["cell"]): line for line in kept}


def _stacks() -> Iterator[tuple[On, Lock]]:
    matrix = read_matrix()
    for on in stacks_of(matrix, AskedCells(), RunRequest().python):
        lock = locked(matrix.plan(on.stack, on.python, DeviceKind.CPU))
        if not isinstance(lock, Unsolvable):
            yield on, lock


def look(root: Path, number: int) -> tuple[float, float]:
    """Fill the store at `root` with `number` observations; return the time to find them, and to read them."""
    addresses = _different(root, number)
    store = Store(root)
    return _median(lambda: store.names(addresses)), _median(lambda: store.read(addresses))


def _different(root: Path, number: int) -> list[str]:
    """Addresses of this many observations of the baseline's size that differ in their seeds."""
    lines = list(baseline().items())
    found = []
    for count in range(number):
        cell, line = lines[count % len(lines)]
        recipe = replace(_RECIPE, cell=cell, seed=count)
        stored_files.write(root, _stored(recipe, line))
        found.append(recipe.address)
    return found


def _stored(recipe: Recipe, line: str) -> Stored:
    # What the recipe says: the store answers with nothing else.
    seen = json.loads(line)
    stack = {"lock_sha256": recipe.lock_sha256, "python": recipe.python, "base_torch": recipe.base_torch}
    seen["stack"] |= {**stack, "resolved": {**seen["stack"]["resolved"], "torch": recipe.torch}}
    seen["device"]["features"], seen["seed"] = recipe.features, recipe.seed
    line = json.dumps(seen, separators=(",", ":"))
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
    return Stored(recipe=recipe, line=line, recorded_at=now, harness=__version__, outcome="pass")


_RECIPE = Recipe(
    cell="",
    lock_sha256="0" * 64,
    python="3.11.7",
    torch="2.13.0+cpu",
    base_torch=False,
    device="x86_64",
    features=(),
    sources="0" * 64,
    given="0" * 64,
    model="tiny",
    steps=10,
    seed=0,
    attention="sdpa",
    handicap=None,
    deep=False,
)


def _median(work: Callable[[], object]) -> float:
    took = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        took.append(time.perf_counter() - start)
    return statistics.median(took)


def main(arguments: list[str]) -> None:
    if arguments[0] == "fill":
        print(fill(Store.configured().root))
    else:
        print(json.dumps(look(Path(arguments[1]), int(arguments[2]))))


if __name__ == "__main__":
    main(sys.argv[1:])
