"""What becomes of a trained model: whether it is saved as it was trained, and which weights are put back into it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from finetune_compat.cell.instruments import census
from finetune_compat.cell.script import after, best
from finetune_compat.cell.script.stories import Measured, Story
from finetune_compat.contract.script import AdapterStates, Computed, PutBack


def note_logits(model: nn.Module, found: Measured, wanted: bool | None) -> None:
    """Keep the logits of a model whose training has just ended, if it has one adapter: a script may merge that. Several
    may be merged with weights of the script's own choice.
    """
    alone = len(getattr(model, "peft_config", None) or ()) == 1
    if alone and found.probe is not None and after.is_due(model, wanted):
        found.logits = after.logits_of(model, found.probe)


def load_again(runs: Sequence[Any], model: nn.Module, place: Path, wanted: bool | None) -> None:
    """Load what was just saved to `place` after training, and compare it with what was trained.

    Args:
        runs: the trainers of the script, in their order.
        model: what was saved.
        place: where it was saved.
        wanted: whether to load it; None: if it is small.
    """
    ended = [run for run in reversed(runs) if run.savings is not None and run.found.probe is not None]
    if not ended or not after.is_due(model, wanted):
        return
    run = next((run for run in ended if run.story.is_of(model)), None)
    if run is None:
        trained = ended[0].story.model()
        if trained is not None and census.has_adapters(trained) and not census.has_adapters(model):
            ended[0].unscaled = after.unscaled(trained, model)
        return
    # Later trainings are not measured, so what they change is not known.
    merged_from = run.found.logits if run.times_trained == 1 else None
    found = after.again(model, place, run.found.probe, merged_from)
    run.reloads += [found] if found is not None else []


def note_put_back(runs: Sequence[Any], model: nn.Module, state: Any) -> None:
    """Note whether `state`, which the script loads into the trained `model`, has the tensors of `model` itself."""
    for run in runs:
        if run.times_trained and run.story.is_of(model) and best.gives_itself(model, state):
            run.found.itself = True


def note_loaded(story: Story, directory: Any, name: str) -> None:
    """Note that the adapter in `directory` was loaded into the model of `story` as `name`."""
    file = Path(str(directory), "adapter_config.json")
    if file.is_file():
        story.loaded_adapters[name] = file.resolve()


_SAME_ROWS = 0.5
"""Least share of the rows of the smaller of two trainings that the other one has too, if both go on with one task."""


def adapters(runs: Sequence[Any], run: Any) -> AdapterStates | None:
    """As `Run.adapters` of `run`, one of the trainers `runs`."""
    states: AdapterStates | None = run.found.adapters
    return states and dataclasses.replace(states, unused=_unused(runs, run))


def _unused(runs: Sequence[Any], run: Any) -> tuple[str, ...]:
    """As `AdapterStates.unused`."""
    story, found = run.story, run.found
    idle = story.loaded_adapters.keys() - story.used_adapters - found.active_adapters
    earlier = [other for other in runs[: runs.index(run)] if other.savings is not None and _same_rows(other, run)]
    own = {file for other in earlier for file in other.savings.configs}
    return tuple(sorted(name for name in idle & found.adapter_names if story.loaded_adapters[name] in own))


def _same_rows(one: Any, other: Any) -> bool:
    rows = (one.found.row_set, other.found.row_set)
    fewest = min(map(len, rows))
    return fewest > 0 and len(rows[0] & rows[1]) >= _SAME_ROWS * fewest


def put_back(found: Measured) -> PutBack | None:
    """As `Run.put_back`."""
    if not found.itself:
        return found.put_back
    return dataclasses.replace(found.put_back or PutBack(), itself=True)


def computed(found: Measured, story: Story) -> Computed:
    """As `Run.computed`."""
    measured = found.computed or Computed()
    return dataclasses.replace(measured, load_asked=story.load_asked, load_found=story.load_found)
