"""What a sweep over seeds is to run: which cells, with which seeds, and where its runs are kept. Host side."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from finetune_compat.contract.catalog import SWEPT_CELLS
from finetune_compat.contract.errors import CompatError
from finetune_compat.contract.plan import Plan
from finetune_compat.contract.seeds import Seeds
from finetune_compat.evidence.calibration import Sweep
from finetune_compat.machine.gpus import Gpu
from finetune_compat.machine.places import places
from finetune_compat.run.keyword import selected
from finetune_compat.stacks.locks import Lock
from finetune_compat.store.addresses import installed, recipes


def plans_of(plan: Plan, seeds: Seeds, arguments: Sequence[str]) -> tuple[Plan, ...]:
    """A plan for each cell to sweep: the cheap ones of `plan`, or those of them that `-k` selects.

    Raises:
        CompatError: `arguments` hold something else than `-k`, or select no cheap cell, or too many for a span.
    """
    cheap = tuple(cell for cell in plan.cells if (cell.flow, cell.variant) in SWEPT_CELLS)
    chosen = selected(cheap, arguments)
    names = ", ".join(map(str, cheap)) or "none: this stack cannot be asked for one"
    if not chosen:
        raise CompatError(
            "no cell to sweep" if chosen is not None else "a sweep is given -k alone",
            where=f"arguments after -- ({' '.join(arguments)})",
            meaning=f"The cheap cells are {names}.",
            todo="Choose among them with -k, or leave it out to sweep all of them.",
        )
    if seeds.first is not None and len(chosen) > 1:
        raise CompatError(
            f"--seeds {seeds.first}-{seeds.first + seeds.number - 1} for {len(chosen)} cells",
            where="arguments after --",
            meaning="Rates are added up over seeds that no two sweeps share.",
            todo="Choose one cell with -k, or ask for a number of seeds and let each cell have its own.",
        )
    return tuple(dataclasses.replace(plan, cells=(dataclasses.replace(cell, listed=()),)) for cell in chosen)


def seeds_for(cell: str, seeds: Seeds, kept: Sequence[Sweep]) -> range:
    """The seeds to sweep `cell` with: those named; else those of its kept sweep, or the first that no sweep has."""
    own = next((sweep for sweep in kept if sweep.cell == cell), None)
    others = [sweep.seeds for sweep in kept if sweep.cell != cell]
    first = seeds.first if seeds.first is not None else own.seeds[0] if own else 0
    if seeds.first is None and any(a < first + seeds.number and first <= b for a, b in others):
        first = max(sweep.seeds[1] for sweep in kept) + 1
    return range(first, first + seeds.number)


def runs_of(plan: Plan, lock: Lock, env_python: Path, gpus: Sequence[Gpu]) -> Path:
    """Where the runs of a sweep of the plan's one cell are kept: in the store, by all they depend on but the seed.

    Raises:
        CompatError: what they depend on cannot be told: GPUs of unlike kinds.
    """
    [recipe] = recipes(plan, installed(env_python, lock), gpus).values()
    return places().store / "sweeps" / f"{recipe.address}.jsonl"
