"""Checks of a user's script. There are no expected counts for a script: it is compared with what it asks for itself."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable

from finetune_compat.checks import renames, rules, script_labels, script_loop, script_model
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
    Freeze,
    Gradients,
    Optimizer,
    Stage,
    Training,
)
from finetune_compat.contract.script import Pipeline, Run, ended_with
from finetune_compat.contract.verdict import Outcome, Result, Symptom, Verdict

FULL_STEPS = 2.0
"""Minimum number of steps at the full learning rate after which an eval loss must have changed."""


def judge(seen: Pipeline) -> tuple[Verdict, ...]:
    """One verdict for each trainer of the script, and one for the script if it failed outside its trainers."""
    runs = tuple(judge_run(run) for run in seen.runs)
    healthy = all(verdict.outcome is Outcome.PASS for verdict in runs)
    return (*runs, *_of_the_script(seen, healthy=healthy))


def _of_the_script(seen: Pipeline, *, healthy: bool) -> tuple[Verdict, ...]:
    error, cell = seen.error, str(CellId(seen.stack.name, seen.script))
    failure = f"{error.type} at {error.stage}: {error.message}" if error else ""
    if error is not None and seen.unknown:
        failure = f"{renames.described(seen.unknown)}: {failure}"
        opinions, untrained = (failed("F001", failure),), before_training(error)
        return (Verdict(cell, Outcome.FAIL, f"F001 {failure}", Symptom.ERROR, opinions, untrained=untrained),)
    if not seen.runs:
        reason = f"nothing was seen: {failure or 'no model of Transformers was loaded'}{_lacking(error)}"
        return (Verdict(cell, Outcome.INFRASTRUCTURE, reason, Symptom.UNKNOWN),)
    if error is None:
        if not seen.status or any(run.seen.error for run in seen.runs):
            return ()  # no error, or the verdict of a trainer reports it
        # The script may have checked its own result and failed for that reason.
        well = "training was healthy, and " if healthy else ""
        reason = f"{well}the script itself ended with {ended_with(seen.status)}"
        return (Verdict(cell, Outcome.INFRASTRUCTURE, reason, Symptom.UNKNOWN),)
    if any(run.seen.error and run.seen.error.message == error.message for run in seen.runs):
        return ()  # the verdict of a trainer reports it
    if excused(error) or not (_by_a_library(error) or error.type in _MISTAKES):
        # The script may reject the result of so few steps.
        return (Verdict(cell, Outcome.INFRASTRUCTURE, f"the script ended in {failure}", Symptom.ERROR),)
    opinions, untrained = (failed("F001", failure),), before_training(error)
    return (Verdict(cell, Outcome.FAIL, f"F001 {failure}", Symptom.ERROR, opinions, untrained=untrained),)


def _lacking(error: Failure | None) -> str:
    """What to do about a module that the environment does not have; empty for another error."""
    module = (
        re.match(r"No module named '(\w+)", error.message) if error and error.type == "ModuleNotFoundError" else None
    )
    if module is None:
        return ""
    if module[1] in ("torchvision", "torchaudio"):
        return f". Install the {module[1]} of this build of torch: the wheels of the package index need a CUDA build"
    return ". A gate installs what the project's file names; `compat watch --with PACKAGE` adds a package to a stack"


_MISTAKES = frozenset({"AttributeError", "ImportError", "IndexError", "KeyError", "NameError", "TypeError"})
"""Errors that Python raises for a mistake. A script that rejects a result raises others."""


def _by_a_library(error: Failure) -> bool:
    return bool(error.frames) and error.frames[-1].file.partition("/")[0] in REPORTED


def judge_run(run: Run) -> Verdict:
    """The verdict on one trainer. INFRASTRUCTURE means that nothing could be judged."""
    error = run.seen.error
    if error is not None and excused(error):
        return Verdict(run.seen.cell, Outcome.INFRASTRUCTURE, unable(error), Symptom.UNKNOWN)
    opinions = ENGINE.opinions(run)
    wrong = [opinion for opinion in opinions if opinion.result is Result.FAIL]
    if wrong:
        outcome, reason = Outcome.FAIL, "; ".join(f"{one.code} {one.message}" for one in wrong)
    elif run.seen.training is None:
        outcome, reason = Outcome.INFRASTRUCTURE, "no training was seen"
    elif run.resume_untried:
        outcome, reason = (
            Outcome.INFRASTRUCTURE,
            f"the resume that the script asks for was not tried: {run.resume_untried}",
        )
    elif closed := _closed(run):
        outcome, reason = Outcome.INFRASTRUCTURE, closed
    elif not run.seen.training.subject_delta:
        outcome, reason = Outcome.INFRASTRUCTURE, f"no trained weight changed: {_why_nothing_changed(run)}"
    else:
        outcome, reason = Outcome.PASS, _pass_reason(run.seen.training)
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
    """Why unchanged weights are no fault: no check failed."""
    if not run.rewarded:
        return "the only step has a learning rate of 0, as warm-up begins; ask for more steps"
    if run.rewards_alike:
        return "all completions of each prompt have the same reward, so no gradient is expected; look at the reward"
    return "no gradient arrived: all completions of a prompt may have the same reward, and the trainer logs no spread"


def _pass_reason(training: Training) -> str:
    if held := rules.held_back(training):
        return f"trained weights change; too few steps to show whether {', '.join(held)} changes, ask for more"
    if training.eval_before is None or training.eval_after is None:
        return (
            f"{training.optimizer.parameters:,} parameters train; without an evaluation set, learning cannot be checked"
        )
    return f"{training.optimizer.parameters:,} parameters train"


def excused(error: Failure) -> bool:
    """Whether this machine caused the error, and not the versions."""
    return machine_failed(error) or without_gpu(error.message)


def _training(run: Run) -> Training:
    if run.seen.training is None:
        raise NotApplicable("no completed training was seen")
    return run.seen.training


def _at(run: Run, stage: Stage) -> Census:
    census = run.seen.census(stage)
    if census is None:
        raise NotApplicable(f"no census at {stage}")
    return census


def _adapters(census: Census) -> tuple[int, int]:
    """Trainable and total parameters of the active adapters; of all adapters if the active ones are unknown."""
    found = census.active or census.by_area.get(Area.ADAPTER)
    return (found.trainable, found.total) if found else (0, 0)


def _names(census: Census) -> tuple[str, ...]:
    return census.active.names if census.active else ()


def _before_the_trainer(run: Run) -> tuple[Census, ...]:
    """Censuses before the trainer: after the script's last own call that wrapped the model, and when it is passed on.

    The first census is left out if other adapters are active when the model is passed to the trainer.
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
    return f"0 of {total:,} adapter parameters are trainable at peft: check is_trainable and inference_mode"


CLIPPED = 1e-4
"""Share of every gradient norm below which clipping leaves next to nothing. Common limits leave a tenth or more."""

_BY_DESIGN = "peft/optimizers/"
"""Files of a library that freeze because the script asks for it: LoRA-FA's optimizer is to leave `lora_A` alone."""


def by_the_script(freeze: Freeze) -> bool:
    """Whether a line of the script itself froze, and no library. It is then reported, and not judged."""
    return bool(freeze.frames) and (
        not _of_a_library(freeze.frames[-1].file) or freeze.frames[-1].file.startswith(_BY_DESIGN)
    )


def _of_a_library(file: str) -> bool:
    return file.partition("/")[0] in REPORTED


def from_the_script(freeze: Freeze) -> Freeze:
    """The freeze with its call chain from the innermost line of the script on."""
    own = [place for place, frame in enumerate(freeze.frames) if not _of_a_library(frame.file)]
    return dataclasses.replace(freeze, frames=freeze.frames[own[-1] :]) if own else freeze


def called_by_the_script(freeze: Freeze) -> str:
    """The file of the library function that the script called and that froze; empty if the script itself froze."""
    return next((frame.file for frame in from_the_script(freeze).frames if _of_a_library(frame.file)), "")


def _frozen(run: Run, *, in_training: bool) -> tuple[Freeze, ...]:
    return tuple(freeze for freeze in run.seen.freezes if (freeze.stage is Stage.TRAINING) is in_training)


def _blame(freezes: Iterable[Freeze]) -> str:
    return "".join(f"; frozen by {freeze_line(from_the_script(freeze))}" for freeze in freezes)


def _kept(run: Run, taken: Census) -> int:
    """Adapter parameters that are trainable in `taken`, without those that the script itself freezes afterwards."""
    later = (Stage.TRAINER,) if taken is run.handed else (Stage.PEFT, Stage.TRAINER)
    own = (freeze for freeze in _frozen(run, in_training=False) if by_the_script(freeze) and freeze.stage in later)
    return _adapters(taken)[0] - sum(freeze.parameters for freeze in own)


def _trainer_keeps(run: Run) -> str | None:
    at_trainer, freezes = _at(run, Stage.TRAINER), _frozen(run, in_training=False)
    trainable, total = _adapters(at_trainer)
    if not at_trainer.trainable:
        of = f"{total:,} adapter" if total else f"{at_trainer.total_logical:,}"
        return f"0 of {of} parameters are trainable at trainer{_blame(freezes)}"
    if run.asks_for_adapters and not total:
        return "the script asks for adapters, and the trainer's model has none"
    if run.asks_for_adapters and not trainable and not (freezes and all(map(by_the_script, freezes))):
        return f"0 of {total:,} adapter parameters are trainable at trainer{_blame(freezes)}"
    before = max(_before_the_trainer(run), key=lambda taken: _kept(run, taken), default=at_trainer)
    if before is at_trainer or trainable >= _kept(run, before):
        return None
    when = "when passed to the trainer" if before is run.handed else "at peft"
    libraries = [freeze for freeze in freezes if not by_the_script(freeze)]
    return (
        f"{trainable:,} adapter parameters are trainable at trainer, {_adapters(before)[0]:,} were {when}"
        f"{_blame(libraries or freezes)}"
    )


def _training_keeps(run: Run) -> str | None:
    before, after = _at(run, Stage.TRAINER), _at(run, Stage.AFTER_TRAINING)
    if after.trainable >= before.trainable:
        return None
    freezes = _frozen(run, in_training=True)
    if after.trainable and freezes and all(map(by_the_script, freezes)):
        raise NotApplicable(f"the script itself freezes in training, which is not judged{_blame(freezes)}")
    since = "" if run.frozen_after is None else f", from step {run.frozen_after + 1} on"
    return (
        f"{after.trainable:,} parameters are trainable after training, {before.trainable:,} were before"
        f"{since}{_blame(freezes)}"
    )


def _closed(run: Run) -> str:
    """Why a run is no evidence in which the script itself froze all adapters, or all layers, in training; else empty.

    It may be a schedule that opens them after the steps that were seen, or a mistake.
    """
    before, after = run.seen.census(Stage.TRAINER), run.seen.census(Stage.AFTER_TRAINING)
    freezes = _frozen(run, in_training=True)
    if before is None or after is None or not (freezes and all(map(by_the_script, freezes))):
        return ""
    if not _all_closed(before, after):
        return ""
    return f"the script itself freezes all layers in training, and did not open them in these steps{_blame(freezes)}"


def _all_closed(before: Census, after: Census) -> bool:
    """Whether no adapter, or no layer of the language model, is trainable any more."""
    areas = [area for area in (Area.ADAPTER, Area.LANGUAGE) if area in before.by_area and area in after.by_area]
    return any(before.by_area[area].trainable and not after.by_area[area].trainable for area in areas)


def _runs_to_its_end(run: Run) -> str | None:
    error = run.seen.error
    return f"{error.type} at {error.stage}: {error.message}" if error else None


def _keeps_the_adapter(run: Run) -> str | None:
    given, kept = run.handed, _at(run, Stage.TRAINER)
    if run.adapters is not None and run.adapters.other_from is not None:
        names = " and ".join(map(repr, run.adapters.other)) or "none"
        return (
            f"from step {run.adapters.other_from} on the active adapter is {names}. The optimizer holds nothing of it, "
            f"and the adapter that is to train takes no part: look for set_adapter"
        )
    if given is None or run.trainer is None:
        raise NotApplicable("no adapter was passed to a trainer")
    if _names(given) != _names(kept):
        now, before = (" and ".join(map(repr, _names(taken))) or "none" for taken in (kept, given))
        return f"the trainer trains another adapter than the one passed to it: {now} instead of {before}"
    same = given.subject_sha256 == kept.subject_sha256
    return None if same else "the trainer replaced the adapter: its values differ between peft and trainer"


def _optimizer(run: Run) -> str | None:
    held = _training(run).optimizer
    # Additional parameters in the optimizer do no harm.
    return rules.optimizer_wrong(Optimizer(held.parameters, held.missing, 0))


def _gradients(run: Run) -> str | None:
    training = _training(run)
    seen, moved = training.gradients, training.subject_delta != 0
    # Single tensors may be idle in healthy runs, for example an expert that receives no token.
    dead = _dead(seen)
    if run.rewarded and dead and run.rewards_alike is not False:
        raise NotApplicable("the gradient comes from rewards, and is zero if they are equal")
    wrong = rules.gradients_absent(
        Gradients(seen.tensors, seen.silent if dead else 0, seen.zero if dead else 0, seen.non_finite), moved=moved
    )
    if not wrong and run.own_idle:
        return (
            f"{' and '.join(run.own_idle)}, which the script defines and the optimizer holds, never got a gradient: "
            f"it is not used in the forward pass, or detached there (detach, data, tolist, no_grad)"
        )
    return f"{wrong}, although the rewards differ" if wrong and run.rewarded and dead else wrong


def _weights(run: Run) -> str | None:
    training = _training(run)
    moved = training.subject_delta != 0
    if not moved and training.subject_finite and (due := _no_change_is_due(run, training)):
        raise NotApplicable(due)
    if wrong := rules.weights_wrong(moved=moved, finite=training.subject_finite):
        return f"{wrong}{_cut_off(run, training)}" if training.subject_finite else wrong
    # Without adapters, a script may train only a part of the model.
    if not run.asks_for_adapters:
        return None
    held = rules.held_back(training)
    classes = {name: seen for name, seen in training.classes.items() if name not in held}
    still = [name for name, seen in classes.items() if seen.unchanged == seen.tensors]
    places = [*still, *training.still_layers]
    if not places:
        return None
    return f"while others changed, nothing changed in {', '.join(places)}{_clipped(run, training)}"


def _cut_off(run: Run, training: Training) -> str:
    """A part of a message: trained parameters outside the adapters get gradients, and the adapters none; else empty."""
    if not run.idle or len(run.idle) >= training.gradients.tensors:
        return ""
    by = (
        "reentrant gradient checkpointing cuts off layers whose input needs no gradient, and "
        "enable_input_require_grads acts on token embeddings alone; pass use_reentrant=False"
        if run.seen.variant.gradient_checkpointing
        else "the forward pass leaves them out, or runs under no_grad"
    )
    return f", and {len(run.idle)} trainable tensors never got a gradient, though others did: {by}"


def _clipped(run: Run, training: Training) -> str:
    """A part of a message: gradients are clipped to next to nothing; empty if they are not."""
    largest, norms = run.max_grad_norm, [norm for norm in training.grad_norm if math.isfinite(norm)]
    if largest is None or not norms or largest > CLIPPED * min(norms):
        return ""
    return f"; max_grad_norm={largest:g} clips gradients with norms from {min(norms):.2g} on to next to nothing"


def _dead(seen: Gradients) -> bool:
    """Whether no tensor received anything but zeros."""
    return seen.silent + seen.zero == seen.tensors


def _no_change_is_due(run: Run, training: Training) -> str:
    """Why no weight has to change; empty if one must."""
    if run.rewarded and _dead(training.gradients):
        return "the gradient comes from rewards, and none arrived"
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
        raise NotApplicable("there is no evaluation set")
    missing = rules.eval_loss_missing(training.eval_before, training.eval_after)
    return f"{missing}{_why_no_eval_loss(run)}" if missing else None


def _why_no_eval_loss(run: Run) -> str:
    if run.label_names != ():
        return ""
    nameless = f": {run.peft_config} has no task_type, and without one PEFT hides the labels of the model's forward"
    because = nameless if run.peft_config and run.task_type is None else ""
    return f"; the trainer's label_names are empty, so it takes no column for labels{because}"


def _resume_keeps(run: Run) -> str | None:
    if run.adapters is not None and run.adapters.unused:
        names = " and ".join(map(repr, run.adapters.unused))
        return (
            f"the adapter {names}, which an earlier stage of this script trained on the same rows and saved, was "
            f"loaded and is never active: training starts again with a fresh adapter"
        )
    if run.resume_unloaded is not None and run.resume_unloaded[0]:
        missing, trained = run.resume_unloaded
        return (
            f"{missing} of {trained} trained tensors do not have the values of the checkpoint when it is loaded: the "
            f"resume leaves them as they were made. Look for load_state_dict(strict=False), and for other names"
        )
    if not run.resume_resets:
        return None
    return "the weights that the checkpoint held were changed before the first step of the resumed training"


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
        raise NotApplicable("the first loss is zero or negative, so a ratio to it has no meaning")
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
        raise NotApplicable(f"warm-up: the steps equal {done:.1f} steps at the full learning rate; ask for more")
    flat = rules.eval_loss_flat(before, after)
    return f"{flat}{_why_flat(run, training, before)}" if flat else None


def _why_flat(run: Run, training: Training, loss: float) -> str:
    """A part of a message: what keeps an eval loss where it is, though weights changed; empty if nothing is known."""
    if math.isclose(loss, math.log(2), abs_tol=1e-6):
        return f", which is ln 2: {script_loop.SAME}"
    if clipped := _clipped(run, training):
        return clipped
    census = next((taken for taken in run.seen.stages if taken.name is Stage.TRAINER), None)
    trained = () if census is None else census.adapter_dtypes if run.asks_for_adapters else tuple(census.dtypes)
    if "bfloat16" not in trained or not training.learning_rate:
        return ""
    rate = max(training.learning_rate)
    return (
        f"; the trained weights are bfloat16, which has 8 bits: steps of {rate:.2g} are rounded away where a weight is "
        f"above {rate * 256:.2g}. Hold them in float32, or use a higher learning rate"
    )


def _frozen_since_wrapping(run: Run, causes: frozenset[str]) -> bool:
    """C103: no adapter parameter was trainable before the trainer, and none is in it."""
    return "C103" in causes and not _adapters(_at(run, Stage.TRAINER))[0]


def _other_cause(_: Run, __: frozenset[str]) -> bool:
    """A target that the model lacks freezes nothing. A scaling of 0 is no consequence of missing gradients."""
    return False


ENGINE = Engine[Run](
    ("C120", script_model.targets_unreached),
    ("C103", _wrapping_leaves_something),
    ("C104", _trainer_keeps),
    ("C105", _training_keeps),
    ("F001", _runs_to_its_end),
    ("A201", _keeps_the_adapter),
    ("A206", _resume_keeps),
    ("C121", script_model.ranks_unallocated),
    ("C107", script_model.new_untrained),
    ("A205", script_model.trained_unsaved),
    ("L501", script_labels.unlabelled),
    ("L503", script_labels.shifted),
    ("L502", script_labels.ends_unlearned),
    ("L504", script_labels.padding_learned),
    ("L505", script_labels.prompt_learned),
    ("L506", script_loop.one_sided),
    ("L507", script_loop.foreign),
    ("B105", script_loop.rows_repeated),
    ("B106", script_loop.held_out_trained),
    ("O301", _optimizer),
    ("O303", script_loop.rate_dies),
    ("O304", script_loop.half_precision),
    ("G409", script_loop.rewards_differ),
    ("G401", _gradients),
    ("G408", script_loop.gradients_kept),
    ("G404", _gradient_norm),
    ("E807", _training_loss),
    ("W701", _weights),
    ("W702", _frozen_stay),
    ("A207", script_loop.saved_is_trained),
    ("W704", script_loop.ranks_agree),
    ("A204", script_model.without_effect),
    ("E801", _eval_reported),
    ("E803", _eval_moves),
    ("E808", _does_not_diverge),
    ("E810", script_loop.evaluation_repeats),
    ("E811", script_loop.likelier),
    ("E812", script_loop.accumulated_once),
    ("E813", script_loop.loss_moves),
    ("E814", script_loop.best_is_best),
    ("E815", script_loop.metrics_ask_the_model),
    ("E816", script_loop.best_is_put_back),
    ("E817", script_loop.pairs_the_same_way),
    ("A203", script_loop.loads_alike),
    ("D803", script_loop.computed_as_asked),
    follows={"C103": _other_cause, "C104": _frozen_since_wrapping, "A204": _other_cause},
)
