"""The options of a trainer's constructor, which may be inherited.

Windows: from TRL 0.26 on `trl.KTOTrainer` and others subclass the trainer in `trl.experimental`, and pass `*args` and
`**kwargs` on.
"""

from __future__ import annotations

import inspect
from typing import Any


def options(trainer: type[Any]) -> set[str]:
    """Names of the arguments that `trainer(...)` takes. A constructor that takes `**kwargs` passes them to the next one
    in the method resolution order, so it also takes those names.
    """
    names: set[str] = set()
    for owner in trainer.__mro__[:-1]:
        if "__init__" not in vars(owner):
            continue
        found = list(inspect.signature(vars(owner)["__init__"]).parameters.values())[1:]
        names |= {each.name for each in found if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)}
        if not any(each.kind is each.VAR_KEYWORD for each in found):
            break
    return names
