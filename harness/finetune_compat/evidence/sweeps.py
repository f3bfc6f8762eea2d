"""Plans a sweep over seeds: its cells, its seeds, and the file of its runs. Host side."""

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

NOT_SWEPT = (
    "Other cells are not swept: one handicap leaves only `lora_B` of `q_proj` alive, which flows of whole models, IA3 "
    "and VeRA do not train; and the rates are those of the fall of the loss of next tokens, in seconds for a run."
)
"""Why a sweep has few cells."""


def plans_of(plan: Plan, seeds: Seeds, arguments: Sequence[str]) -> tuple[Plan, ...]:
    """A plan for each cell to sweep: the cheap cells of `plan`, or those of them that `-k` selects.

    Raises:
        CompatError: `arguments` has other options than `-k`, selects no cheap cell, or selects several cells for one
            range of seeds.
    """
    cheap = tuple(cell for cell in plan.cells if (cell.flow, cell.variant) in SWEPT_CELLS)
    chosen = selected(cheap, arguments)
    names = ", ".join(map(str, cheap)) or "none on this stack"
    if not chosen:
        raise CompatError(
            "no cell to sweep" if chosen is not None else "a sweep accepts only -k",
            where=f"arguments after -- ({' '.join(arguments)})",
            meaning=f"The cheap cells are {names}. {NOT_SWEPT}",
            todo="Select some of them with -k, or sweep all of them without -k.",
        )
    if seeds.first is not None and len(chosen) > 1:
        raise CompatError(
            f"--seeds {seeds.first}-{seeds.first + seeds.number - 1} for {len(chosen)} cells",
            where="arguments after --",
            meaning="Rates are summed over seeds that sweeps do not share.",
            todo="Select one cell with -k, or give a number of seeds: then each cell gets its own seeds.",
        )
    return tuple(dataclasses.replace(plan, cells=(dataclasses.replace(cell, listed=()),)) for cell in chosen)


def seeds_for(cell: str, seeds: Seeds, kept: Sequence[Sweep]) -> range:
    """The seeds to sweep `cell` with: those given; else those of its stored sweep, or the first that no sweep has."""
    own = next((sweep for sweep in kept if sweep.cell == cell), None)
    others = [sweep.seeds for sweep in kept if sweep.cell != cell]
    first = seeds.first if seeds.first is not None else own.seeds[0] if own else 0
    if seeds.first is None and any(a < first + seeds.number and first <= b for a, b in others):
        first = max(sweep.seeds[1] for sweep in kept) + 1
    return range(first, first + seeds.number)


def runs_of(plan: Plan, lock: Lock, env_python: Path, gpus: Sequence[Gpu]) -> Path:
    """The file in the store for the runs of the plan's one cell. Its name depends on everything except the seed.

    Raises:
        ValueError: the cell has no address, for example with GPUs of different kinds.
    """
    [recipe] = recipes(plan, installed(env_python, lock), gpus).values()
    return places().store / "sweeps" / f"{recipe.address}.jsonl"
