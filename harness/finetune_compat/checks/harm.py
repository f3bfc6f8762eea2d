"""How much a listed deviation harms its user, from its evidence. Pure."""

from __future__ import annotations

from enum import StrEnum

from finetune_compat.checks import Symptom


class Harm(StrEnum):
    """What a listed deviation does to a training. The most serious comes first: a run that ends well costs most."""

    LEARNS_NOTHING = "learns nothing"
    LEARNS_SOMETHING_ELSE = "learns something else"
    CANNOT_BE_SAVED = "cannot be saved"
    CRASHES = "crashes"


SAVING = frozenset({"A202", "A203", "A205", "A206"})
"""Checks that compare what is saved, or loaded again, with what was trained."""


def harm(check: str, symptom: Symptom | None) -> Harm:
    """The harm where `check` fails and a run ends with `symptom`; None: it ends with an error."""
    if symptom is None:
        return Harm.CRASHES
    if check in SAVING:
        return Harm.CANNOT_BE_SAVED
    return Harm.LEARNS_NOTHING if symptom is Symptom.FLAT else Harm.LEARNS_SOMETHING_ELSE


def worst(harms: set[Harm]) -> Harm:
    """The most serious of `harms`, of which there is at least one."""
    return min(harms, key=tuple(Harm).index)
