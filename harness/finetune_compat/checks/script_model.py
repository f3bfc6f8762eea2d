"""Checks of what a script asks of its model and adapters: targets, new parameters, what is saved."""

from __future__ import annotations

from collections.abc import Sequence

from finetune_compat.checks.engine import NotApplicable
from finetune_compat.contract.script import AdapterStates, Run

_NAMED = 3
"""Number of names in a message."""


def targets_unreached(run: Run) -> str | None:
    """C120: every target module and every pattern of the adapters must match a module."""
    setup = run.setup
    if setup is None or not (setup.asked or setup.patterns_unreached):
        raise NotApplicable("no adapter names its target modules")
    parts = []
    if setup.unreached:
        count = f"{len(setup.unreached)} of {len(setup.asked)}"
        parts.append(f"{count} target modules are not in the model: {_listed(setup.unreached)}")
    if setup.patterns_unreached:
        keys = _listed(setup.patterns_unreached)
        parts.append(f"keys of rank_pattern or alpha_pattern match no module: {keys}")
    return "; ".join(parts) or None


def without_effect(run: Run) -> str | None:
    """A204: the adapters take part in training, with another factor than 0."""
    if run.adapters is not None and (message := _apart(run.adapters)):
        return message
    if run.setup is None or not run.setup.scaling:
        raise NotApplicable("no adapter has a scaling")
    if any(map(float, run.setup.scaling)):
        return None
    count = sum(run.setup.scaling.values())
    return f"the scaling of the adapter is 0 in all {count} adapted modules: its update is multiplied by 0"


def _apart(seen: AdapterStates) -> str:
    """Why the adapters do not take part in any step; empty if they do in one."""
    steps = f"when each of {seen.steps} steps ends"
    if seen.disabled == seen.steps:
        return f"the adapters are disabled {steps}: disable_adapter_layers() or disable_adapters() was not undone"
    if seen.merged == seen.steps:
        return f"the adapters are merged into their base {steps} and get no gradient: unmerge_adapter() was not called"
    if seen.without_strength == seen.steps:
        return f"the scaling of the adapter is 0 {steps}: its update is multiplied by 0"
    return ""


def ranks_unallocated(run: Run) -> str | None:
    """C121: AdaLoRA must allocate its ranks in every step."""
    if run.peft_config != "AdaLoraConfig" or run.allocations is None:
        raise NotApplicable("the adapter is not AdaLoRA")
    if run.seen.training is None or run.allocations:
        return None
    return "nothing calls update_and_allocate of AdaLoRA: no rank is taken away, and all stay at init_r"


def new_untrained(run: Run) -> str | None:
    """C107: training must change new heads and added rows of the embedding."""
    new = run.new
    if new is None or run.setup is None:
        raise NotApplicable("no new head and no added token beside an adapter")
    if run.seen.training is None or not run.seen.training.subject_delta:
        raise NotApplicable("no trained weight changed")
    parts = []
    if new.heads:
        parts.append(f"the new head {_listed(new.heads)} is frozen: its values are random, and PEFT does not save it")
    if new.rows_unchanged:
        count = f"{len(new.rows_unchanged)} of {new.rows}"
        parts.append(f"{count} rows that were added to the embedding did not change: {_listed(new.rows_unchanged)}")
    return "; ".join(parts) or None


def trained_unsaved(run: Run) -> str | None:
    """A205: the saved adapter must hold everything that training changed."""
    saved = run.saved
    if saved is None:
        raise NotApplicable("nothing outside the adapters was trained, or no adapter alone was saved")
    if not saved.missing:
        return None
    count = f"{len(saved.missing)} of {saved.trained}"
    return f"{count} trained tensors outside the adapters are not in the saved file: {_listed(saved.missing)}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"
