"""A callback for a training run of the user's own: it stops a run that learns nothing.

    SFTTrainer(..., callbacks=[TrainingGuard()])

It rests on what `TrainerCallback` has been given since Transformers 4.36: the model and the optimizer at the begin of
training and of each step. TRL's trainers and any other subclass of `Trainer` pass it through.
"""

from __future__ import annotations

import warnings
from collections import deque
from typing import Any, Literal

import torch
from torch import nn
from transformers import TrainerCallback

from finetune_compat.cell.instruments import census
from finetune_compat.cell.instruments.fingerprints import fingerprints, unchanged
from finetune_compat.cell.instruments.live import StepLook, rewards_make_the_gradient
from finetune_compat.cell.instruments.optimizer import holdings, parameters_held
from finetune_compat.checks import guard_checks
from finetune_compat.checks.guard_checks import Look, Problem
from finetune_compat.contract.errors import CompatError, ExitCode
from finetune_compat.contract.records import Actor, Stage

_SHARDING = ("DEEPSPEED", "FSDP", "MEGATRON_LM")
"""Ways of Accelerate's to train in which a process holds shards of parameters, and its optimizer holds other ones."""


class TrainingStopped(CompatError, RuntimeError):
    """The run learns nothing, and goes no further.

    `code` is that of the failing check. The message says what that means and what to do.
    """

    exit_code = ExitCode.UNHEALTHY

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.what, meaning=problem.meaning, todo=problem.todo)
        self.code = problem.code


class TrainingWarning(UserWarning):
    """What a guard that may only warn found, and what a guard cannot see in this run."""


_OF_A_STEP = {"L501", "G404", "G401"}
"""Codes of what a look at one step shows."""

_KEPT = 1_000
"""Looks that are kept: more than the steps between two logs, or in any sequence that is judged."""


class _Run:
    """What the guard knows of one call of `train()`."""

    def __init__(self, watched: dict[str, nn.Parameter], progress: float) -> None:
        self.watched = watched
        self.began_at = progress
        self.steps = 0
        self.looks: deque[Look] = deque(maxlen=_KEPT)
        self.unrewarded: list[Look] = []
        """Looks without a gradient, from steps whose rewards differ."""
        self.rows = self.masked = 0
        self.told_of_rows = False
        self.never_trained = set(watched)
        self.alive = 0
        """Looks with a gradient."""
        self.fingerprints: list[torch.Tensor] | None = fingerprints(watched.values()) if watched else None
        self.open: StepLook | None = None


class TrainingGuard(TrainerCallback):
    """Stops a training run with `TrainingStopped`, or warns, as soon as it is certain that nothing is learned.

    Seen before the first step: nothing is trainable; the optimizer misses trainable parameters. Seen in the steps it
    looks at, which are the first `patience`, then every `every`-th, and each one after a suspicious one: gradients that
    are NaN or infinite, gradients that are all absent or zero, labels that are all masked. Seen when `patience` steps
    at the full learning rate have passed: weights that have not changed, an eval loss that is flat to six decimals.

    Args:
        on_problem: "raise" ends the run; "warn" reports each code once, as a `TrainingWarning`.
        every: steps from one look to the next, once the first have been in order.
        patience: steps in sequence that may show no sign of learning.

    Raises:
        ValueError: an argument has a value it cannot have.
    """

    def __init__(self, on_problem: Literal["raise", "warn"] = "raise", *, every: int = 50, patience: int = 3) -> None:
        if on_problem not in ("raise", "warn"):
            raise ValueError(f'on_problem must be "raise" or "warn", not {on_problem!r}')
        if every < 1 or patience < 1:
            raise ValueError(f"every={every} and patience={patience} count steps: both must be 1 or more")
        self._on_problem, self._every, self._patience = on_problem, every, patience
        self._warned_of: set[str] = set()
        self._run: _Run | None = None
        # Training done in all, in steps at the full learning rate. Warm-up and decay count as the share they are of it.
        self._progress = self._rate = 0.0
        self._steps = 0
        # The latest evaluation that was not like the one before it: loss, progress, steps.
        self._evaluations: dict[str, tuple[float, float, int]] = {}
        self._logged_at = 0

    # -------------------------------------------------------------------------------------------- events of the trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self._let_go()
        self._logged_at = state.global_step
        self._run = self._begun(args, given["model"], given["optimizer"])

    def on_step_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        # A trainer may make its optimizer after training has begun.
        run = self._run = self._run or self._begun(args, given["model"], given["optimizer"])
        if run is None:
            return
        self._let_go()
        run.steps += 1
        self._rate = max(_rates(given["optimizer"], "lr"), default=0.0)
        if self._is_due(run):
            run.open = StepLook(given["model"], run.watched, labels=not _compiled(args))

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        run = self._run
        if run is None:
            return
        self._steps += 1
        scaled = getattr(given["optimizer"], "scaler", None) is not None
        if not getattr(given["optimizer"], "step_was_skipped", False):
            self._progress += _share_of_full_rate(given["optimizer"], self._rate)
        if run.open is not None:
            look, run.open = run.open.close(state.global_step), None
            self._judge(run, look, rewarded=rewards_make_the_gradient(args), scaled=scaled)
        self._compare_weights(run)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **given: Any) -> None:
        run = self._run
        if run is None or not logs or "reward_std" not in logs:
            return
        steps, self._logged_at = state.global_step - self._logged_at, state.global_step
        seen = [look for look in run.looks if look.step > state.global_step - steps]
        # Rewards that are all equal have no gradient, and their spread is an average over the steps of this log: only
        # if each of them was looked at, and none had a gradient, do the two contradict each other.
        if float(logs["reward_std"]) > 0 and len(seen) == steps and all(look.dead for look in seen):
            run.unrewarded += seen
            self._report(guard_checks.no_gradient(run.unrewarded, self._patience, rewarded=True))
        elif any(not look.dead for look in seen):
            run.unrewarded.clear()

    def on_evaluate(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if rewards_make_the_gradient(args):
            return  # the loss of a policy that is its own reference is 0 whatever it has learned
        metrics = given.get("metrics") or {}
        for name in [name for name in metrics if name.endswith("_loss")]:
            # Only the loss itself comes with the time it took; others are metrics of the user's own.
            if f"{name.removesuffix('_loss')}_runtime" in metrics:
                self._compare_losses(name, float(metrics[name]))

    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self._let_go()
        if getattr(args, "load_best_model_at_end", False):
            self._evaluations.clear()  # the weights are those of an earlier evaluation, and so is their loss

    # --------------------------------------------------------------------------------------------------- what it judges

    def _begun(self, args: Any, model: nn.Module | None, optimizer: Any) -> _Run | None:
        if model is None or optimizer is None:
            return None
        trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not trainable:
            self._report(guard_checks.nothing_trainable(census.take(model, Stage.TRAINING, Actor.FLOW, digest=False)))
        watched: dict[str, nn.Parameter] = {}
        if owner := owner_of_shards(model, optimizer):
            self._mention(
                f"{owner} holds the parameters in shards: neither the optimizer, nor gradients, nor whether weights "
                "change is checked in this run"
            )
        else:
            held = parameters_held(optimizer)
            missing = [name for name, p in trainable.items() if id(p) not in held]
            elements = sum(p.numel() for p in trainable.values())
            self._report(guard_checks.optimizer_incomplete(holdings(model, held), missing, elements))
            watched = {name: p for name, p in trainable.items() if id(p) in held and p.numel()}
        if _compiled(args):
            self._mention("a compiled model cannot be listened to: labels are not checked in this run")
        return _Run(watched, self._progress)

    def _is_due(self, run: _Run) -> bool:
        if run.steps <= self._patience or (run.steps - 1) % self._every == 0:
            return True
        # One that has been warned of is not looked at more closely again.
        return bool(run.looks) and run.looks[-1].suspicious and not self._warned_of & _OF_A_STEP

    def _judge(self, run: _Run, look: Look, *, rewarded: bool, scaled: bool) -> None:
        run.looks.append(look)
        run.rows, run.masked = run.rows + look.rows, run.masked + look.masked
        # Labels first: gradients that are NaN or zero may be what masked labels do.
        problem = guard_checks.labels_masked(run.looks, self._patience, scaled=scaled)
        problem = problem or guard_checks.gradients_not_finite(run.looks, scaled=scaled)
        if not rewarded:
            problem = problem or guard_checks.no_gradient(run.looks, self._patience, rewarded=False)
        self._report(problem)
        if run.masked and not look.empty and not run.told_of_rows:
            run.told_of_rows = True
            self._mention(guard_checks.rows_without_labels(run.rows, run.masked))
        self._note_idle(run, look)

    def _note_idle(self, run: _Run, look: Look) -> None:
        # Of a step that is skipped nothing is expected: lora_B stays zero, and with it the gradient of lora_A.
        if look.dead or look.non_finite or not look.tensors:
            return
        run.alive += 1
        run.never_trained &= {*look.silent, *look.zero}
        if run.never_trained and run.alive == guard_checks.LOOKS_AT_EACH:
            idle = [name for name in run.watched if name in run.never_trained]
            self._mention(guard_checks.never_trained(idle, look.tensors, run.alive))

    def _compare_weights(self, run: _Run) -> None:
        if run.fingerprints is None or self._progress - run.began_at < self._patience:
            return
        if not run.alive:
            return  # no gradient has been seen: that is another problem, or none where rewards make it
        before, run.fingerprints = run.fingerprints, None
        if unchanged(before, fingerprints(run.watched.values())):
            elements = sum(p.numel() for p in run.watched.values())
            self._report(guard_checks.weights_stand_still(len(run.watched), elements, run.steps, self._rate))

    def _compare_losses(self, name: str, loss: float) -> None:
        before, progress, steps = self._evaluations.setdefault(name, (loss, self._progress, self._steps))
        problem = guard_checks.eval_flat(name, before, loss, self._steps - steps)
        if problem is None:
            self._evaluations[name] = loss, self._progress, self._steps
        elif self._progress - progress >= self._patience:
            self._report(problem)

    # --------------------------------------------------------------------------------------------------- what it says

    def _report(self, problem: Problem | None) -> None:
        if problem is None:
            return
        self._let_go()
        stopped = TrainingStopped(problem)
        if self._on_problem == "raise":
            raise stopped
        if problem.code not in self._warned_of:
            self._warned_of.add(problem.code)
            self._mention(str(stopped))

    def _mention(self, text: str) -> None:
        warnings.warn(f"TrainingGuard: {text}", TrainingWarning, stacklevel=2)

    def _let_go(self) -> None:
        if self._run is not None and self._run.open is not None:
            self._run.open.release()
            self._run.open = None


def owner_of_shards(model: nn.Module, optimizer: Any) -> str | None:
    """Who spreads the parameters over processes, if anybody does."""
    state = getattr(optimizer, "accelerator_state", None)
    kind = getattr(getattr(state, "distributed_type", None), "name", "")
    if kind in _SHARDING:
        return str(kind)
    # Known by what it has: importing its class takes a second.
    return "DTensor" if any(hasattr(p, "placements") for p in model.parameters()) else None


def _compiled(args: Any) -> bool:
    return bool(getattr(args, "torch_compile", False))


def _rates(optimizer: Any, key: str) -> list[float]:
    """Learning rates of all groups; 0 for one that finds its own, as Adafactor may."""
    return [float(group.get(key, group["lr"]) or 0) for group in optimizer.param_groups]


def _share_of_full_rate(optimizer: Any, rate: float) -> float:
    """What a step at `rate` counts for. Schedulers note the rate they were given in the groups."""
    full = max(_rates(optimizer, "initial_lr"), default=0.0)
    return min(rate / full, 1.0) if full else 1.0
