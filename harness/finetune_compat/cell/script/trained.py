"""Measure a few steps of a user's training, and evaluate before and after them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback

from finetune_compat.cell.guard import owner_of_shards
from finetune_compat.cell.instruments.batches import LabelLog
from finetune_compat.cell.instruments.census import area_of, subject
from finetune_compat.cell.instruments.changes import compared
from finetune_compat.cell.instruments.optimizer import parameters_held
from finetune_compat.cell.instruments.training import Probe, logged
from finetune_compat.cell.script import after, batches_seen, best, computing, random_states, resuming, taught
from finetune_compat.cell.script.adapter_states import AdapterLog
from finetune_compat.cell.script.batches_seen import BatchLog
from finetune_compat.cell.script.checkpoints import Checkpoints
from finetune_compat.cell.script.kept_gradients import KeptGradients
from finetune_compat.cell.script.labels import Teaching, counting, heard
from finetune_compat.cell.script.notes import Notes
from finetune_compat.cell.script.own import is_own
from finetune_compat.cell.script.stories import Measured
from finetune_compat.contract.records import Area, Labels, Training
from finetune_compat.contract.script import Computed, PutBack

_ACCURACIES = ("eval_accuracy", "eval_rewards/accuracies")
"""Names of the share of pairs whose chosen row is preferred: of a reward model, and of a preference loss."""

EVAL_ROWS = 256
"""Most rows of an evaluation: enough to see whether the loss changes at all."""


_LONGER = 4
"""Factor by which a training may last longer that has closed all its layers: a schedule may open them."""


class _Ends(TrainerCallback):
    """Ends training after `steps` steps of this call.

    A script that freezes all layers in training gets more steps, until it opens them or `_LONGER` times as many are
    done. Before that, a schedule that unfreezes layers looks like a mistake.
    """

    def __init__(self, steps: int, model: nn.Module) -> None:
        self._steps, self._done = steps, 0
        self._areas = _open_areas(model)
        self.left_out = 0
        """Steps that were left when it ended training."""

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self._done += 1
        if self._done < self._steps:
            return
        closed = self._areas - _open_areas(given["model"]) if "model" in given else frozenset()
        if self._done < _LONGER * self._steps and closed & {Area.ADAPTER, Area.LANGUAGE}:
            return
        self.left_out = max(0, state.max_steps - state.global_step)
        control.should_training_stop = True


def _open_areas(model: nn.Module) -> frozenset[Area]:
    """The parts of `model` that have a trainable parameter."""
    return frozenset(area_of(name) for name, parameter in model.named_parameters() if parameter.requires_grad)


class _ScriptProbe(Probe):
    """The probe of the flows. It measures nothing if the parameters are sharded."""

    def __init__(self, trained: dict[str, nn.Parameter], notes: Notes) -> None:
        # On the CPU, because a user's model may leave no room for a copy on the accelerator.
        super().__init__(trained, keep_on="cpu")
        self._notes = notes
        self.whole = False
        self.frozen_after: int | None = None
        """Number of steps after which fewer parameters were trainable, until now; None if there is no such step."""
        self.stale_from: int | None = None
        """The first step that began with gradients of an earlier one."""
        self.own: set[str] = set()
        """Names of the parameters of the script's own modules that the optimizer holds."""
        self._trainable: list[nn.Parameter] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if owner := owner_of_shards(given["model"], given["optimizer"]):
            self._notes.miss(f"{owner} holds the parameters in shards: gradients and the optimizer were not seen")
            return
        self.whole = True
        self._trainable = [parameter for parameter in given["model"].parameters() if parameter.requires_grad]
        held = parameters_held(given["optimizer"])
        self.own = {name for name, parameter in own_parameters(given["model"]) if id(parameter) in held}
        super().on_train_begin(args, state, control, **given)

    def on_step_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        super().on_step_begin(args, state, control, **given)
        self._note_frozen(state)
        if self.stale_from is None and any(p.grad is not None and bool(p.grad.any()) for p in self._trainable):
            self.stale_from = int(state.global_step) + 1

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        super().on_step_end(args, state, control, **given)
        self._note_frozen(state)

    def _note_frozen(self, state: Any) -> None:
        if all(parameter.requires_grad for parameter in self._trainable):
            self.frozen_after = None
        elif self.frozen_after is None:
            self.frozen_after = int(state.global_step)


def own_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters that a class of the script defines by itself, and not through a layer of a library."""
    for place, module in model.named_modules():
        if is_own(type(module).__module__):
            yield from ((f"{place}.{name}".lstrip("."), p) for name, p in module.named_parameters(recurse=False))


def train(
    trainer: Any,
    run: Callable[[], Any],
    steps: int,
    found: Measured,
    notes: Notes,
    checkpoints: Checkpoints,
    *,
    again: bool | None = None,
) -> Any:
    """Evaluate, let `run` train for `steps` steps, and evaluate again. Fills `found`, in part if `run` raises.

    Args:
        checkpoints: those that were saved so far.
        again: whether to try the loading of the best checkpoint; None: if the model is small.

    Returns:
        What `run` returns.
    """
    end = _end_token(trainer)
    labels, trained = LabelLog(end), _to_train(trainer.model)
    teaching = Teaching(trainer, found, notes)
    probe, ends = _ScriptProbe(trained, notes), _Ends(steps, trainer.model)
    states, kept = AdapterLog(), KeptGradients(list(trained.values()))
    callbacks = (probe, ends, states, kept)
    batches = BatchLog(trainer.model, trainer)
    batches.cut = found.cut_from_training
    before, of_evaluation = _evaluated(trainer, end, found, notes)
    for callback in callbacks:
        trainer.add_callback(callback)
    before_it = len(trainer.state.log_history)
    try:
        with (
            heard(trainer.model, counting(labels)),
            teaching.listening(),
            batches_seen.listening(trainer, batches, lambda error: _failed(notes, error)),
            resuming.watched(trainer, trained, checkpoints) as loading,
            taught.listening(trainer.model) as lessons,
            computing.listening(trainer.model) as computed,
            best.followed(trainer, tried=after.is_due(trainer.model, again)) as loaded,
        ):
            result = run()
    finally:
        for callback in callbacks:
            trainer.remove_callback(callback)
        probe.gradients.detach()
        kept.detach()
        found.labels, found.idle = labels.labels(), probe.gradients.idle()
        teaching.end()
        found.frozen_after, found.cut, found.steps_left = probe.frozen_after, ends.left_out > 0, ends.left_out
        batches.stale_from = probe.stale_from or kept.first()
        found.adapters, found.row_set = states.states(), batches.row_set
        found.adapter_names = frozenset(getattr(trainer.model, "peft_config", None) or ())
        found.own_idle = tuple(sorted(probe.gradients._silent & set(probe.own)))
    found.resets, found.unloaded = loading.resets, loading.unloaded
    found.taught, found.probe = lessons.taught(), batches.probe
    found.computed = Computed(asked=computing.asked_of(trainer.args), seen=tuple(sorted(computed)))
    found.active_adapters = frozenset(states.active)
    if loaded is not None:
        found.put_back = PutBack(compared=loaded.compared, differ=loaded.differ)
    # What a schedule of the script has opened meanwhile may change.
    closed = {name for name, parameter in trainer.model.named_parameters() if not parameter.requires_grad}
    still = {name: digest for name, digest in probe.frozen.items() if name in closed}
    frozen = compared(still, trainer.model) if probe.whole else None
    with batches.evaluating():
        later, _ = _evaluated(trainer, end, found, notes)
    try:
        found.seen_batches = batches.seen()
    except Exception as error:  # noqa: BLE001 - an instrument must not end the script
        _failed(notes, error)
    # `train()` begins a new log.
    log = trainer.state.log_history
    log = log[before_it:] if len(log) > before_it else log
    found.rewards_alike, found.reward = _rewards_alike(log), logged(log, "reward")
    found.logged_at = tuple(int(entry["step"]) for entry in log if entry.get("loss") is not None and "step" in entry)
    if probe.whole:
        found.training = Training(
            steps=len(probe.gradients.norms),
            # If `logging_steps` exceeds the steps, the log has only the mean over all of them.
            loss=logged(log, "loss") or logged(log, "train_loss"),
            grad_norm=tuple(probe.gradients.norms),
            learning_rate=tuple(probe.learning_rates),
            learning_rate_asked=(),
            eval_before=before,
            eval_after=later,
            accuracy_before=None,
            accuracy_after=None,
            subject_delta=max(probe.classes.changes().values(), default=0.0),
            subject_finite=all(bool(torch.isfinite(p).all()) for p in trained.values()),
            optimizer=probe.optimizer,
            gradients=probe.gradients.gradients(),
            classes=probe.classes.classes(),
            frozen=frozen,
            rates_agree=probe.rates_agree,
            evaluated=of_evaluation,
            still_layers=probe.classes.still_layers(),
            grad_norm_logged=logged(log, "grad_norm"),
        )
    return result


def _failed(notes: Notes, error: Exception) -> None:
    notes.miss(f"batches: the instrument failed ({type(error).__name__}: {str(error)[:200]})")


def _to_train(model: nn.Module) -> dict[str, nn.Parameter]:
    """The active adapters, or without adapters all parameters, except those that are frozen now. If all are frozen:
    all of them.
    """
    named = subject(model)
    return {name: parameter for name, parameter in named.items() if parameter.requires_grad} or named


def resume(
    trainer: Any, run: Callable[[], Any], found: Measured, checkpoints: Checkpoints, *, again: bool | None = None
) -> None:
    """Let `run` resume from a checkpoint for one step, and note in `found` what it loads.

    The model still has the weights of the checkpoint. If it is small, other weights take their place first, so that
    loading shows. They are put back if the resume does not load them.

    Args:
        again: whether to do that; None: if the model is small.
    """
    ends, trained = _Ends(1, trainer.model), _to_train(trainer.model)
    kept = [(p, p.detach().clone()) for p in trained.values()] if after.is_due(trainer.model, again) else []
    trainer.add_callback(ends)
    with resuming.watched(trainer, trained, checkpoints) as loading:
        try:
            with torch.no_grad():
                for parameter, _ in kept:
                    parameter.add_(1)
            run()
        finally:
            trainer.remove_callback(ends)
            if loading.unloaded is None or loading.unloaded[0]:
                with torch.no_grad():
                    for parameter, before in kept:
                        parameter.copy_(before)
    found.resets, found.unloaded = loading.resets, loading.unloaded


def _rewards_alike(log: Sequence[Mapping[str, Any]]) -> bool | None:
    """Whether in every log entry all completions of each prompt have the same reward; None if nothing is logged."""
    # From TRL 0.23 on `reward_std` is over all prompts of a batch, and prompts may differ although no group does.
    if equal := logged(log, "frac_reward_zero_std"):
        return all(share == 1 for share in equal)
    spread = logged(log, "reward_std")
    return all(value == 0 for value in spread) if spread else None


def _end_token(trainer: Any) -> int:
    """The end-of-sequence token; -1, which no row has, if the trainer has no tokenizer."""
    # Read from `vars`, because the attribute `tokenizer` of Trainer warns in Transformers 4.46 to 4.57.
    tokens = vars(trainer).get("processing_class") or vars(trainer).get("tokenizer")
    end = getattr(getattr(tokens, "tokenizer", tokens), "eos_token_id", None)
    return -1 if end is None else int(end)


def _evaluated(trainer: Any, end: int, found: Measured, notes: Notes) -> tuple[float | None, Labels | None]:
    rows = _few(trainer.eval_dataset, notes)
    if rows is None:
        return None, None
    labels = LabelLog(end)
    try:
        with _without_traces(trainer), heard(trainer.model, counting(labels)):
            metrics = trainer.evaluate(rows)
            metrics = {**next(iter(trainer.state.log_history[-1:]), {}), **metrics}  # TRL only logs the accuracy
    except Exception as error:  # noqa: BLE001 - an evaluation that the script does not call must not end the script
        notes.miss(f"evaluation raised {type(error).__name__}: {str(error)[:200]}")
        return None, None
    found.rows = len(rows) if hasattr(rows, "__len__") else EVAL_ROWS
    loss = metrics.get("eval_loss")
    found.accuracies += tuple(float(metrics[name]) for name in _ACCURACIES if metrics.get(name) is not None)
    return (None if loss is None else float(loss)), labels.labels()


def _few(rows: Any, notes: Notes) -> Any:
    """The first `EVAL_ROWS` rows of an evaluation set; of the first set, if `rows` is several sets by name."""
    if isinstance(rows, dict):
        if not rows:
            return None
        name = next(iter(rows))
        notes.miss(f"of {len(rows)} evaluation sets only {name!r} was evaluated")
        rows = rows[name]
    if rows is None or not hasattr(rows, "__len__"):
        return rows.take(EVAL_ROWS) if hasattr(rows, "take") else rows
    if len(rows) <= EVAL_ROWS:
        return rows
    first = range(EVAL_ROWS)
    few = rows.select(first) if hasattr(rows, "select") else torch.utils.data.Subset(rows, first)
    notes.change(f"the evaluations before and after training used the first {EVAL_ROWS} of {len(rows):,} rows")
    return few


@contextmanager
def _unprepared(trainer: Any) -> Iterator[None]:
    """On exit, Accelerate has not prepared the model if it had not before: what it prepares for an evaluation it does
    not wrap for training, and then several processes exchange no gradients.
    """
    held = getattr(getattr(trainer, "accelerator", None), "_models", None)
    if not isinstance(held, list) or int(os.environ.get("WORLD_SIZE", "1") or 1) <= 1:
        yield
        return
    before, prepared = list(held), "_is_accelerate_prepared" in vars(trainer.model)
    try:
        yield
    finally:
        held[:] = before
        if not prepared:
            vars(trainer.model).pop("_is_accelerate_prepared", None)


@contextmanager
def _without_traces(trainer: Any) -> Iterator[None]:
    """While open, no callback of `trainer` is called. On exit, its log and all random states are as before."""
    callbacks, trainer.callback_handler.callbacks = trainer.callback_handler.callbacks, []
    log = list(trainer.state.log_history)
    try:
        with random_states.kept(), _unprepared(trainer):
            yield
    finally:
        trainer.state.log_history[:] = log
        trainer.callback_handler.callbacks = callbacks
