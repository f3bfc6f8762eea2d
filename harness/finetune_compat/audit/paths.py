"""All paths through a script: every condition that is not known is taken both ways, and the same way along one path."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from finetune_compat.audit.expressions import Exhausted
from finetune_compat.audit.interpreter import Ended, Path
from finetune_compat.audit.sources import Source
from finetune_compat.audit.values import Function, Module, Place

MOST_PATHS = 48
"""Paths of one script. More conditions than that are independent of training, mostly."""

MOST_STEPS = 60_000
"""Statements and expressions of all paths of one script, so that a large project ends in time."""


@dataclass
class Choice:
    """One condition, as it was decided."""

    key: str
    place: Place
    taken: bool
    default: bool
    """Whether it was taken as the defaults of options say."""
    again: bool = False
    """Whether the other branch was taken before."""


@dataclass
class Plan:
    """The decisions of one path: those of the plan first, then new ones."""

    planned: Sequence[Choice] = ()
    made: list[Choice] = field(default_factory=list)
    known: dict[str, Choice] = field(default_factory=dict)

    def take(self, key: str, place: Place, first: bool, default: bool) -> bool:  # noqa: FBT001 - see Decisions
        """Decide as before for the same condition, as planned, or `first`."""
        if key in self.known:
            return self.known[key].taken
        number = len(self.made)
        choice = self.planned[number] if number < len(self.planned) else Choice(key, place, first, default)
        self.made.append(choice)
        self.known[key] = choice
        return choice.taken

    def following(self) -> list[Choice] | None:
        """The plan of the next path: the last condition with a branch left is taken the other way."""
        made = list(self.made)
        while made:
            last = made.pop()
            if not last.again:
                return [*made, Choice(last.key, last.place, not last.taken, False, again=True)]
        return None


@dataclass
class Walked:
    """One path and its decisions."""

    path: Path
    choices: Sequence[Choice]
    ended: bool
    """Whether the script raises or exits on it."""


def walk(
    source: Source, make: Callable[[Plan], Path], functions: Sequence[str] = (), most: int = MOST_PATHS
) -> Iterator[Walked]:
    """Every path of a script, up to `most`.

    Args:
        source: the script.
        make: a new path with these decisions.
        functions: names of its functions that nothing calls, to be followed instead of the script as a program.
        most: the number of paths.
    """
    plan: list[Choice] | None = []
    steps = 0
    for _ in range(most):
        if plan is None or steps > MOST_STEPS:
            return
        decisions = Plan(plan)
        path = make(decisions)
        yield Walked(path, decisions.made, _followed(path, source, functions))
        plan = decisions.following()
        steps += path.steps


def _followed(path: Path, source: Source, functions: Sequence[str]) -> bool:
    try:
        module = path.run(source, "<function>" if functions else "__main__")
        for name in functions:
            _enter(path, module, name)
    except Ended:
        return True
    except (Exhausted, RecursionError):
        pass
    return False


def _enter(path: Path, module: Module, name: str) -> None:
    owner, _, method = name.rpartition(".")
    found = module.scope.find(owner or name)
    if owner and found is not None:
        found = path.attribute(found, method)
    if isinstance(found, Function) and found.node not in path.entered:
        with suppress(Ended):
            path.enter(found)
