"""Opinions on a script of the user's own. There is no closed form of it: its user is entitled to what the script itself
asks for.
"""

from __future__ import annotations

import math

from finetune_compat.checks import rules
from finetune_compat.checks.case import before_training, freeze_line, signs, symptom
from finetune_compat.checks.engine import Engine, NotApplicable, failed
from finetune_compat.checks.judge import machine_failed, unable, without_gpu
from finetune_compat.contract.cell_id import CellId
from finetune_compat.contract.records import (
    REPORTED,
    Actor,
    Area,
    Census,
    Failure,
    Gradients,
    Optimizer,
    Stage,
    Training,
)
from finetune_compat.contract.script import Pipeline, Run, ended_with
from finetune_compat.contract.verdict import Outcome, Result, Symptom, Verdict

FULL_STEPS = 2.0
"""Steps at the full learning rate without which nobody can say that an eval loss should have moved."""


def judge(seen: Pipeline) -> tuple[Verdict, ...]:
    """A verdict for each trainer of the script, and one on the script where it ended otherwise than it should."""
    runs = tuple(judge_run(run) for run in seen.runs)
    healthy = all(verdict.outcome is Outcome.PASS for verdict in runs)
    return (*runs, *_of_the_script(seen, healthy=healthy))


def _of_the_script(seen: Pipeline, *, healthy: bool) -> tuple[Verdict, ...]:
    error, cell = seen.error, str(CellId(seen.stack.name, seen.script))
    told = f"{error.type} at {error.stage}: {error.message}" if error else ""
    if not seen.runs:
        reason = f"nothing was seen: {told or 'no model of Transformers was loaded'}"
        return (Verdict(cell, Outcome.INFRASTRUCTURE, reason, Symptom.UNKNOWN),)
    if error is None:
        if not seen.status or any(run.seen.error for run in seen.runs):
            return ()  # all is well, or a trainer has said so
        # A script may have looked at what it has trained, and know better.
        well = "training was healthy, and " if healthy else ""
        reason = f"{well}the script itself ended with {ended_with(seen.status)}"
        return (Verdict(cell, Outcome.INFRASTRUCTURE, reason, Symptom.UNKNOWN),)
    if any(run.seen.error and run.seen.error.message == error.message for run in seen.runs):
        return ()  # its trainer has said so
    if excused(error) or not _by_a_library(error):
        # A script may object to what so few steps have made.
        return (Verdict(cell, Outcome.INFRASTRUCTURE, f"the script ended in {told}", Symptom.ERROR),)
    opinions, untrained = (failed("F001", told),), before_training(error)
    return (Verdict(cell, Outcome.FAIL, f"F001 {told}", Symptom.ERROR, opinions, untrained=untrained),)


def _by_a_library(error: Failure) -> bool:
    return bool(error.frames) and error.frames[-1].file.partition("/")[0] in REPORTED


def judge_run(run: Run) -> Verdict:
    """The verdict on one trainer. INFRASTRUCTURE is what could not be told."""
    error = run.seen.error
    if error is not None and excused(error):
        return Verdict(run.seen.cell, Outcome.INFRASTRUCTURE, unable(error), Symptom.UNKNOWN)
    opinions = ENGINE.opinions(run)
    wrong = [opinion for opinion in opinions if opinion.result is Result.FAIL]
    if wrong:
        outcome, reason = Outcome.FAIL, "; ".join(f"{one.code} {one.message}" for one in wrong)
    elif run.seen.training is None:
        outcome, reason = Outcome.INFRASTRUCTURE, "no training was seen"
    elif not run.seen.training.subject_delta:
        outcome, reason = Outcome.INFRASTRUCTURE, f"no trained weight changed: {_why_nothing_changed(run)}"
    else:
        outcome, reason = Outcome.PASS, _praise(run.seen.training)
    return Verdict(
        run.seen.cell,
        outcome,
        reason,
        symptom(run.seen),
        opinions,
        signs=signs(run.seen),
        untrained=run.seen.training is None and error is not None and before_training(error),
    )


def _why_nothing_changed(run: Run) -> str:
    """Why that is no fault, where no check has failed."""
    if not run.rewarded:
        return "the only step has a learning rate of 0, as warm-up begins; ask for more steps"
    if run.rewards_alike:
        return "all completions of each prompt earned the same reward, so that no gradient was due; look at the reward"
    return "no gradient arrived, as where all completions of a prompt earn the same, and the trainer logs no spread"


def _praise(training: Training) -> str:
    if held := rules.held_back(training):
        return f"trained weights change; so few steps cannot show whether {', '.join(held)} does, ask for more"
    if training.eval_before is None or training.eval_after is None:
        return f"{training.optimizer.parameters:,} parameters train; without an evaluation set, nothing says they learn"
    return f"{training.optimizer.parameters:,} parameters train"


def excused(error: Failure) -> bool:
    """Whether this machine, and not the versions, is why it was raised."""
    return machine_failed(error) or without_gpu(error.message)


def _training(run: Run) -> Training:
    if run.seen.training is None:
        raise NotApplicable("no training was seen to its end")
    return run.seen.training


def _at(run: Run, stage: Stage) -> Census:
    census = run.seen.census(stage)
    if census is None:
        raise NotApplicable(f"no census at {stage}")
    return census


def _adapters(census: Census) -> tuple[int, int]:
    """Parameters of the active adapters: trainable, and all. Of all adapters, where nothing says which are active."""
    found = census.active or census.by_area.get(Area.ADAPTER)
    return (found.trainable, found.total) if found else (0, 0)


def _names(census: Census) -> tuple[str, ...]:
    return census.active.names if census.active else ()


def _before_the_trainer(run: Run) -> tuple[Census, ...]:
    """The adapters that the script gives to be trained: as its own last call wrapped the model, then as handed over.

    The first is left out where other adapters are active when the model is handed over.
    """
    wrapped = run.seen.census(Stage.PEFT)
    if wrapped is not None and wrapped.by is Actor.LIBRARY:
        wrapped = None
    if run.handed is None:
        return (wrapped,) if wrapped else ()
    same = wrapped and (_names(wrapped), _adapters(wrapped)[1]) == (_names(run.handed), _adapters(run.handed)[1])
    return (wrapped, run.handed) if wrapped and same else (run.handed,)


def _wrapping_leaves_something(run: Run) -> str | None:
    own = _before_the_trainer(run)
    if not own:
        raise NotApplicable("the script does not wrap the model itself")
    if any(_adapters(taken)[0] for taken in own):
        return None
    total = _adapters(own[-1])[1]
    return f"0 of {total:,} adapter parameters are trainable at peft: is_trainable or inference_mode is not as meant"


def _trainer_keeps(run: Run) -> str | None:
    at_trainer = _at(run, Stage.TRAINER)
    trainable, total = _adapters(at_trainer)
    blame = "".join(f"; frozen by {freeze_line(freeze)}" for freeze in run.seen.freezes)
    if not at_trainer.trainable:
        of = f"{total:,} adapter" if total else f"{at_trainer.total_logical:,}"
        return f"0 of {of} parameters are trainable at trainer{blame}"
    if run.asks_for_adapters and not total:
        return "the script asks for adapters, and the trainer's model has none"
    if run.asks_for_adapters and not trainable:
        return f"0 of {total:,} adapter parameters are trainable at trainer{blame}"
    before = max(_before_the_trainer(run), key=lambda taken: _adapters(taken)[0], default=at_trainer)
    most = _adapters(before)[0]
    if trainable >= most:
        return None
    when = "when handed over" if before is run.handed else "at peft"
    return f"{trainable:,} adapter parameters are trainable at trainer, {most:,} were {when}{blame}"


def _training_keeps(run: Run) -> str | None:
    before, after = _at(run, Stage.TRAINER), _at(run, Stage.AFTER_TRAINING)
    if after.trainable >= before.trainable:
        return None
    return f"{after.trainable:,} parameters are trainable after training, {before.trainable:,} were before"


def _runs_to_its_end(run: Run) -> str | None:
    error = run.seen.error
    return f"{error.type} at {error.stage}: {error.message}" if error else None


def _keeps_the_adapter(run: Run) -> str | None:
    given, kept = run.handed, _at(run, Stage.TRAINER)
    if given is None or run.trainer is None:
        raise NotApplicable("no adapter was seen to be handed to a trainer")
    if _names(given) != _names(kept):
        now, before = (" and ".join(map(repr, _names(taken))) or "none" for taken in (kept, given))
        return f"the trainer trains another adapter than the one handed over: {now} in place of {before}"
    same = given.subject_sha256 == kept.subject_sha256
    return None if same else "the adapter handed over was replaced: its values differ between peft and trainer"


def _labels(run: Run) -> str | None:
    labels = run.seen.labels
    if labels is None:
        raise NotApplicable("no batch had a label for every token")
    # A row cut short of its answer is waste; none with an answer is a fault.
    return rules.labels_masked(labels.samples, labels.all_masked) if labels.all_masked == labels.samples else None


def _optimizer(run: Run) -> str | None:
    held = _training(run).optimizer
    # What else it holds does no harm.
    return rules.optimizer_wrong(Optimizer(held.parameters, held.missing, 0))


def _gradients(run: Run) -> str | None:
    training = _training(run)
    seen, moved = training.gradients, training.subject_delta != 0
    # Single tensors are idle in healthy runs: an expert no token went to. A class, or a layer, is not.
    dead = _dead(seen)
    if run.rewarded and dead and run.rewards_alike is not False:
        raise NotApplicable("rewards make the gradient, and it is zero where they are equal")
    wrong = rules.gradients_absent(
        Gradients(seen.tensors, seen.silent if dead else 0, seen.zero if dead else 0, seen.non_finite), moved=moved
    )
    return f"{wrong}, although the rewards differ" if wrong and run.rewarded and dead else wrong


def _weights(run: Run) -> str | None:
    training = _training(run)
    moved = training.subject_delta != 0
    if not moved and training.subject_finite and (due := _no_change_is_due(run, training)):
        raise NotApplicable(due)
    if wrong := rules.weights_wrong(moved=moved, finite=training.subject_finite):
        return wrong
    # Of a model without adapters a script may train a part.
    if not run.asks_for_adapters:
        return None
    held = rules.held_back(training)
    classes = {name: seen for name, seen in training.classes.items() if name not in held}
    still = [name for name, seen in classes.items() if seen.unchanged == seen.tensors]
    places = [*still, *training.still_layers]
    return f"while others changed, nothing changed in {', '.join(places)}" if places else None


def _dead(seen: Gradients) -> bool:
    """Whether no tensor received anything but zeros."""
    return seen.silent + seen.zero == seen.tensors


def _no_change_is_due(run: Run, training: Training) -> str:
    """Why no weight need have changed; empty where one must have."""
    if run.rewarded and _dead(training.gradients):
        return "rewards make the gradient, and none arrived"
    if run.full_rate and training.learning_rate == (0.0,):
        return "the only step has a learning rate of 0, as warm-up begins"
    return ""


def _frozen_stay(run: Run) -> str | None:
    frozen = _training(run).frozen
    if frozen is None:
        raise NotApplicable("frozen weights were not compared")
    if not frozen.changed:
        return None
    return f"{frozen.changed} of {frozen.tensors} frozen tensors changed in training: {', '.join(frozen.examples)}"


def _eval_reported(run: Run) -> str | None:
    training = _training(run)
    if run.rows_evaluated is None:
        raise NotApplicable("there is no evaluation set; train loss tells less")
    return rules.eval_loss_missing(training.eval_before, training.eval_after)


def _gradient_norm(run: Run) -> str | None:
    training, zero = _training(run), run.rewarded
    wrong = rules.gradient_norm_wrong("the norm measured at the tensors", training.grad_norm, may_be_zero=zero)
    logged = training.grad_norm_logged or ()
    return wrong or rules.gradient_norm_wrong("the logged gradient norm", logged, may_be_zero=zero)


def _training_loss(run: Run) -> str | None:
    losses = _training(run).loss
    if not losses:
        raise NotApplicable("the trainer logged no training loss")
    return rules.loss_wrong(losses, may_be_zero=run.rewarded)


def _does_not_diverge(run: Run) -> str | None:
    training = _training(run)
    before, after = training.eval_before, training.eval_after
    if run.rewarded:
        raise NotApplicable("the loss of a policy that is its own reference is 0 whatever it has learned")
    evaluated = before is not None and after is not None
    if not evaluated and len(training.loss) < rules.FEWEST_LOSSES:
        raise NotApplicable("there is no eval loss before and after, and too few train losses were logged")
    begin = training.loss[0] if before is None or after is None else before
    if begin <= 0:
        raise NotApplicable("the loss began at zero or below: twice that says nothing")
    return rules.diverged(before, after, training.loss)


def _eval_moves(run: Run) -> str | None:
    training = _training(run)
    before, after = training.eval_before, training.eval_after
    if before is None or after is None or not (math.isfinite(before) and math.isfinite(after)):
        raise NotApplicable("there is no eval loss before and after")
    if run.rewarded:
        raise NotApplicable("the loss of a policy that is its own reference is 0 whatever it has learned")
    done = run.full_steps
    if done is not None and training.optimizer.parameters and done < FULL_STEPS:
        raise NotApplicable(f"warm-up: the steps taken are worth {done:.1f} at the full learning rate; ask for more")
    return rules.eval_loss_flat(before, after)


ENGINE = Engine[Run](
    ("C103", _wrapping_leaves_something),
    ("C104", _trainer_keeps),
    ("C105", _training_keeps),
    ("F001", _runs_to_its_end),
    ("A201", _keeps_the_adapter),
    ("L501", _labels),
    ("O301", _optimizer),
    ("G401", _gradients),
    ("G404", _gradient_norm),
    ("E807", _training_loss),
    ("W701", _weights),
    ("W702", _frozen_stay),
    ("E801", _eval_reported),
    ("E803", _eval_moves),
    ("E808", _does_not_diverge),
)
