"""Cached results of a script on the sides of a gate or of a search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from finetune_compat.contract.errors import CompatError, why
from finetune_compat.contract.recipe import Recipe
from finetune_compat.contract.script import Pipeline
from finetune_compat.contract.verdict import Outcome, Verdict
from finetune_compat.gate.resolved import Resolved
from finetune_compat.machine.gpus import Gpu
from finetune_compat.stacks.ask import StackPython
from finetune_compat.stacks.environments import environment_of
from finetune_compat.stacks.locks import Unsolvable
from finetune_compat.stacks.supply import REGISTRY
from finetune_compat.store.addresses import installed
from finetune_compat.store.predicted import predict
from finetune_compat.store.scripts import keep_script, script_recipe, stored_script
from finetune_compat.store.store import Store


@dataclass(frozen=True, slots=True)
class ScriptResults:
    """Reads and writes the results of one script in the store."""

    given: Sequence[str]
    """The script and its arguments."""
    steps: int
    gpus: Sequence[Gpu]

    def without_environment(self, of: Resolved) -> Pipeline | None:
        """The cached record on a side, found from the prediction of its environment; None if there is none."""
        if isinstance(of.lock, Unsolvable):
            return None
        predicted = predict(of.plan.python, of.plan.torch, REGISTRY)
        if predicted is None:
            return None
        environment = predicted.installed(of.lock)
        recipe = script_recipe(self.given, self.steps, of.stack, of.lock, environment, self.gpus)
        return stored_script(recipe, Store.configured()) if recipe else None

    def recipe(self, stack: StackPython) -> Recipe | None:
        """The recipe in an environment; None if the result cannot be cached."""
        try:
            environment = installed(stack.python, stack.lock)
        except CompatError:
            return None
        return script_recipe(self.given, self.steps, stack.name, stack.lock, environment, self.gpus)

    def look_up(self, recipe: Recipe | None) -> Pipeline | None:
        """The cached record; None if there is none."""
        return stored_script(recipe, Store.configured()) if recipe else None

    def keep(
        self,
        recipe: Recipe | None,
        stack: StackPython,
        seen: Pipeline,
        verdicts: Sequence[Verdict],
        say: Callable[[str], None],
    ) -> None:
        """Store a record, unless a signal ended the script or something could not be judged. `say` gets the reason why
        one is not stored that could have been.
        """
        unjudged = any(verdict.outcome is Outcome.INFRASTRUCTURE for verdict in verdicts)
        if recipe is None or unjudged or (seen.status or 0) < 0:
            return
        try:
            environment_of(stack.lock)  # a file of the environment may have changed while the script ran
            problem = keep_script(recipe, seen, Store.configured())
        except CompatError as error:
            problem = error.what
        except OSError as error:
            problem = why(error)
        if problem:
            say(f"{stack.name}: not cached: {problem}")
