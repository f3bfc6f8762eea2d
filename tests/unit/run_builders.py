"""A stand-in for nox, a request for three cells, and their observations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import builders as b
import pytest
from builders import UNLISTED
from finetune_compat.contract.options import DeviceChoice
from finetune_compat.contract.recipe import Recipe
from finetune_compat.contract.records import Observation, Variant, to_json
from finetune_compat.results.run_files import RowState, StackRow, read_rows, write_row
from finetune_compat.run import cached_run, execution, nox_run, stack_run
from finetune_compat.run import request as requested
from finetune_compat.run.options import RunOptions, read_options
from finetune_compat.run.request import RunRequest
from finetune_compat.run.selection import AskedCells
from finetune_compat.store import stored_files
from finetune_compat.store.addresses import addresses, recipes
from finetune_compat.store.store import Store
from finetune_compat.store.stored_files import Stored
from store_builders import fitting

STACK = "trl0.22-py311"
CELLS = ("sft-full[qwen2-full-gc]", "sft-full[qwen2-full-nogc]", "sft-full[llama-full-gc]")
IDS = tuple(f"{STACK}/{cell}@cpu" for cell in CELLS)
SESSION = "compat-3.11(trl='0.22')"


class Nox:
    """A stand-in for nox: a session observes its cells, except those that are lost to infrastructure failures."""

    def __init__(self) -> None:
        self.sessions: list[tuple[str, ...]] = []
        self.asked: list[tuple[str, ...]] = []
        self.loses: list[set[str]] = []
        """The lost cells of each session in turn."""
        self.says = ""
        self.run = Path()

    def __call__(self, command: Sequence[str], *, stdout: object, **_: object) -> Nox:
        options = Path(command[command.index("--options") + 1])
        names = read_options(options).cells or ()
        self.run = options.parent
        self.asked.append(names)
        self.sessions.append(tuple(command[command.index("-s") + 1 : command.index("--")]))
        lost = self.loses.pop(0) if self.loses else set()
        if self.says:
            stdout.write(self.says)  # type: ignore[attr-defined]
            stdout.flush()  # type: ignore[attr-defined]
            return self
        with (self.run / "observations.jsonl").open("a") as file:
            file.writelines(f"{to_json(observed(cell))}\n" for cell in names if cell not in lost)
        for row in read_rows(self.run):
            write_row(self.run, StackRow(row.name, RowState.RAN, "", row.selected))
        return self

    def poll(self) -> int:
        return 0


def observed(cell: str, features: tuple[str, ...] = ()) -> Observation:
    """Return the observation of a healthy cell."""
    stack, _, rest = cell.partition("/")
    flow, _, variant = rest.removesuffix("@cpu").removesuffix("]").partition("[")
    found = b.healthy(flow, _variant(flow, variant), stack=stack)
    return replace(found, seed=stack_run.SEED, device=replace(found.device, features=features))


def _variant(flow: str, name: str) -> Variant:
    from finetune_compat.contract import catalog
    from finetune_compat.contract.records import DeviceKind

    cells = catalog.cells_on(DeviceKind.CPU)
    return next(variant for each, variant in cells if each.name == flow and str(variant) == name)


def stored_now(recipe: Recipe, seen: Observation) -> Stored:
    """Return `seen` as the store holds it, recorded now."""
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    return Stored(recipe=recipe, line=to_json(fitting(recipe, seen)), recorded_at=now, harness="0.1.0", outcome="pass")


def stored_cells(monkeypatch: pytest.MonkeyPatch, *cells: str) -> dict[str, Path]:
    """Store these cells; return their files."""
    found: dict[str, Recipe] = {}

    def noted(*given: object, **named: object) -> object:
        found.update(recipes(*given, **named))  # type: ignore[arg-type]
        return addresses(*given, **named)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(requested, "addresses", noted)
        requested.select(request(), ())
    root = Store.configured().root
    names = {
        cell: stored_files.write(root, stored_now(found[cell], observed(cell, found[cell].features))) for cell in cells
    }
    return {cell: stored_files.path_of(root, name) for cell, name in names.items()}


def request(*, fresh: bool = False, pytest: tuple[str, ...] = (), **changes: object) -> RunRequest:
    """Request the three cells of one flow on one stack."""
    asked = AskedCells(stacks=("trl0.22",), flows=("sft-full",), variants=("*-full-*",))
    options = RunOptions(device=DeviceChoice.CPU, fresh=fresh, pytest=pytest)
    return replace(RunRequest(asked=asked, options=options), **changes)  # type: ignore[arg-type]


def without_processes(stand_in: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start `stand_in` in place of nox, in an environment that is a folder of files, and list no issue."""
    site = tmp_path / "env" / "lib" / "python3.11" / "site-packages"
    (site / "torch-2.13.0+cpu.dist-info").mkdir(parents=True)
    (tmp_path / "env" / "bin").mkdir()
    (tmp_path / "env" / "bin" / "python").touch()
    (tmp_path / "env" / "pyvenv.cfg").write_text("version_info = 3.11.7\n")
    monkeypatch.setattr(requested, "env_python", lambda _: tmp_path / "env" / "bin" / "python")
    monkeypatch.setattr(nox_run.subprocess, "Popen", stand_in)
    monkeypatch.setattr(execution, "POLL_EVERY_S", 0.0)
    for module in (execution, cached_run):
        monkeypatch.setattr(module, "load_ledger", lambda: UNLISTED)
    # A run sets both for its child processes.
    for name in ("COMPAT_RUN_ID", "COMPAT_PARENT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
