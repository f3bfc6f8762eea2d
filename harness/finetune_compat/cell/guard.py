"""A callback for a user's training run. It stops a run that learns nothing.

    SFTTrainer(..., callbacks=[TrainingGuard()])

It uses what `TrainerCallback` receives since Transformers 4.36: the model and the optimizer when training and each step
begin. Every subclass of `Trainer` passes them, TRL's trainers included.
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
"""Distributed types of Accelerate that shard the parameters: a process's optimizer then holds other tensors than its
model.
"""


class TrainingStopped(CompatError, RuntimeError):
    """Training is stopped, because it learns nothing.

    `code` is the code of the failing check. The message says what the failure means and what to do.
    """

    exit_code = ExitCode.UNHEALTHY

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.what, meaning=problem.meaning, todo=problem.todo)
        self.code = problem.code


class TrainingWarning(UserWarning):
    """A problem found by a guard with `on_problem="warn"`, or something that a guard cannot check in this run."""


_OF_A_STEP = {"L501", "G404", "G401"}
"""Codes of the problems that are found by observing steps."""

_MOST_LOOKS = 1_000
"""The last observed steps that are remembered: more than lie between two logs, or in any sequence that is judged."""


class _Run:
    """The guard's state during one call of `train()`."""

    def __init__(self, watched: dict[str, nn.Parameter], progress: float) -> None:
        self.watched = watched
        self.began_at = progress
        self.steps = 0
        self.looks: deque[Look] = deque(maxlen=_MOST_LOOKS)
        self.unrewarded: list[Look] = []
        """Observed steps without a gradient, although their rewards differ."""
        self.rows = self.masked = 0
        self.reported_rows = False
        self.never_trained = set(watched)
        self.alive = 0
        """Observed steps with a gradient."""
        self.fingerprints: list[torch.Tensor] | None = fingerprints(watched.values()) if watched else None
        self.open: StepLook | None = None


class TrainingGuard(TrainerCallback):
    """Stops a training run with `TrainingStopped`, or warns, as soon as it is certain that nothing is learned.

    Checked before the first step: nothing is trainable; the optimizer misses trainable parameters. Checked in observed
    steps: gradients that are NaN or infinite, gradients that are all absent or zero, labels that are all masked.
    Observed are the first `patience` steps, then every `every`-th step, and each step after a suspicious one. Checked
    after `patience` steps at the full learning rate: weights that have not changed, an eval loss that is flat to six
    decimals.

    Args:
        on_problem: "raise" ends the run; "warn" reports each code once, as a `TrainingWarning`.
        every: number of steps from one observed step to the next, after the first `patience` steps.
        patience: number of consecutive steps without a sign of learning that are a problem.

    Raises:
        ValueError: an argument is invalid.
    """

    def __init__(self, on_problem: Literal["raise", "warn"] = "raise", *, every: int = 50, patience: int = 3) -> None:
        if on_problem not in ("raise", "warn"):
            raise ValueError(f'on_problem must be "raise" or "warn", not {on_problem!r}')
        if every < 1 or patience < 1:
            raise ValueError(f"every={every} and patience={patience} count steps: both must be 1 or more")
        self._on_problem, self._every, self._patience = on_problem, every, patience
        self._warned_of: set[str] = set()
        self._run: _Run | None = None
        # Training so far, in steps at the full learning rate. A step of warm-up or decay counts as its share of it.
        self._progress = self._rate = 0.0
        self._steps = 0
        # By metric, the latest evaluation whose loss differed from the one before: loss, progress, steps.
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
            if state.global_step == 1:
                self._mention("callbacks get no optimizer, as from Transformers 4.49.0: nothing is checked")
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
        # Equal rewards give no gradient, and `reward_std` is an average over the steps of this log. It contradicts the
        # gradients only if every one of these steps was observed and none had a gradient.
        if float(logs["reward_std"]) > 0 and len(seen) == steps and all(look.dead for look in seen):
            run.unrewarded += seen
            self._report(guard_checks.no_gradient(run.unrewarded, self._patience, rewarded=True))
        elif any(not look.dead for look in seen):
            run.unrewarded.clear()

    def on_evaluate(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if rewards_make_the_gradient(args):
            return  # the loss of a policy that is its own reference is 0, whatever the policy has learned
        metrics = given.get("metrics") or {}
        for name in [name for name in metrics if name.endswith("_loss")]:
            # Trainer reports a runtime with each of its losses. Other names that end in `_loss` are the user's metrics.
            if f"{name.removesuffix('_loss')}_runtime" in metrics:
                self._compare_losses(name, float(metrics[name]))

    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self._let_go()
        if getattr(args, "load_best_model_at_end", False):
            self._evaluations.clear()  # the loaded weights repeat the loss of an earlier evaluation

    # ----------------------------------------------------------------------------------------------------------- checks

    def _begun(self, args: Any, model: nn.Module | None, optimizer: Any) -> _Run | None:
        if model is None or optimizer is None:
            return None
        trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not trainable:
            self._report(guard_checks.nothing_trainable(census.take(model, Stage.TRAINING, Actor.FLOW, digest=False)))
        watched: dict[str, nn.Parameter] = {}
        if owner := owner_of_shards(model, optimizer):
            self._mention(
                f"{owner} holds the parameters in shards: the optimizer, gradients and changes of weights are not "
                "checked in this run"
            )
        else:
            held = parameters_held(optimizer)
            missing = [name for name, p in trainable.items() if id(p) not in held]
            elements = sum(p.numel() for p in trainable.values())
            self._report(guard_checks.optimizer_incomplete(holdings(model, held), missing, elements))
            watched = {name: p for name, p in trainable.items() if id(p) in held and p.numel()}
        if _compiled(args):
            self._mention("the labels of a compiled model cannot be read: they are not checked in this run")
        return _Run(watched, self._progress)

    def _is_due(self, run: _Run) -> bool:
        if run.steps <= self._patience or (run.steps - 1) % self._every == 0:
            return True
        # After a warning about steps, a suspicious step no longer makes the next one observed.
        return bool(run.looks) and run.looks[-1].suspicious and not self._warned_of & _OF_A_STEP

    def _judge(self, run: _Run, look: Look, *, rewarded: bool, scaled: bool) -> None:
        run.looks.append(look)
        run.rows, run.masked = run.rows + look.rows, run.masked + look.masked
        # Labels first: masked labels can make gradients NaN or zero.
        problem = guard_checks.labels_masked(run.looks, self._patience, scaled=scaled)
        problem = problem or guard_checks.gradients_not_finite(run.looks, scaled=scaled)
        if not rewarded:
            problem = problem or guard_checks.no_gradient(run.looks, self._patience, rewarded=False)
        self._report(problem)
        if run.masked and not look.empty and not run.reported_rows:
            run.reported_rows = True
            self._mention(guard_checks.rows_without_labels(run.rows, run.masked))
        self._note_idle(run, look)

    def _note_idle(self, run: _Run, look: Look) -> None:
        # Steps that a scaler skips prove nothing: lora_B stays zero, and so does the gradient of lora_A.
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
            return  # no gradient was seen: a problem of its own, or equal rewards
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

    # -------------------------------------------------------------------------------------------------------- reports

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
    """What shards the parameters: a distributed type of Accelerate, or "DTensor"; None if nothing shards them."""
    state = getattr(optimizer, "accelerator_state", None)
    kind = getattr(getattr(state, "distributed_type", None), "name", "")
    if kind in _SHARDING:
        return str(kind)
    # Recognised by an attribute: importing the class DTensor takes a second.
    return "DTensor" if any(hasattr(p, "placements") for p in model.parameters()) else None


def _compiled(args: Any) -> bool:
    return bool(getattr(args, "torch_compile", False))


def _rates(optimizer: Any, key: str) -> list[float]:
    """Learning rates of all groups; 0 for a group whose optimizer computes its rate, as Adafactor may."""
    return [float(group.get(key, group["lr"]) or 0) for group in optimizer.param_groups]


def _share_of_full_rate(optimizer: Any, rate: float) -> float:
    """Progress of a step at `rate`, 0 to 1: its share of the full rate, which schedulers store in the groups."""
    full = max(_rates(optimizer, "initial_lr"), default=0.0)
    return min(rate / full, 1.0) if full else 1.0
