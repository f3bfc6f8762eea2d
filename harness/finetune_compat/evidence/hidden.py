"""Faults that an xfail would hide: mutates the xfail observations of a baseline, judges them again, and counts.

A mutation adds one fault that no issue of the ledger lists. A cell that stays an xfail hides it.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune_compat.checks import Outcome, judge
from finetune_compat.checks.ledger import Ledger
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.checks.objectives import RULES
from finetune_compat.contract.catalog import flow_named
from finetune_compat.contract.errors import ExitCode
from finetune_compat.contract.records import Census, Failure, Frame, Freeze, Observation, Stage, StepPair, Training
from finetune_compat.machine.places import places
from finetune_compat.results.run_files import find_run, judge_one, read_observations

Mutation = Callable[[Observation], Observation | None]
"""Adds a fault to an observation; None if the observation has nothing to change."""

ELSEWHERE = "elsewhere/module.py"
OTHERWISE = "another_function"


@dataclass(frozen=True, slots=True)
class Row:
    """One mutation, applied to every observation that it can change."""

    mutation: str
    of: int
    """Number of changed observations."""
    hidden: int
    """Number of them that stay xfails."""
    issues: Mapping[str, int]
    """Number of hidden cells by issue. A cell of two issues counts for both."""
    example: str
    """The first hidden cell; empty if there is none."""


def hidden(observations: Iterable[Observation], ledger: Ledger) -> tuple[Row, ...]:
    """One row for each mutation of `MUTATIONS`. `observations` are xfails."""
    seen = tuple(observations)
    return tuple(_row(name, mutate, seen, ledger) for name, mutate in MUTATIONS.items())


def xfails(observations: Iterable[Observation], ledger: Ledger) -> tuple[Observation, ...]:
    """The observations that deviate exactly as `ledger` lists."""
    return tuple(seen for seen in observations if judge_one(seen, ledger).outcome is Outcome.XFAIL)


def hidden_command(name: str) -> ExitCode:
    """Print the table of a baseline.

    Returns:
        UNHEALTHY if an xfail hides a fault, COULD_NOT_TELL if the baseline has no xfail.

    Raises:
        UnknownName: there is no such baseline or run.
        RecordsError: its observations cannot be read.
    """
    ledger = load_ledger()
    run = find_run(name, places().baselines if (places().baselines / name).is_dir() else None)
    found = xfails(read_observations(run / "observations.jsonl")[1].values(), ledger)
    rows = hidden(found, ledger)
    print(table(run, len(found), rows))
    if not found:
        return ExitCode.COULD_NOT_TELL
    return ExitCode.UNHEALTHY if any(row.hidden for row in rows) else ExitCode.HEALTHY


def table(run: Path, xfailed: int, rows: Sequence[Row]) -> str:
    """The rows as text."""
    width = max(len(row.mutation) for row in rows)
    lines = [f"{xfailed:,} xfails of {run.name}, each with one more fault. Hidden: still an xfail.", ""]
    lines += [f"{row.mutation:<{width}}  {row.hidden:>6,} of {row.of:>6,}  {_issues(row)}".rstrip() for row in rows]
    return "\n".join(lines)


def _issues(row: Row) -> str:
    named = ", ".join(f"{issue} {number:,}" for issue, number in row.issues.items())
    return f"{named}; such as {row.example}" if named else ""


def _row(name: str, mutate: Mutation, observations: Sequence[Observation], ledger: Ledger) -> Row:
    of, hiding, issues = 0, list[str](), Counter[str]()
    for seen in observations:
        changed = mutate(seen)
        if changed is None:
            continue
        of += 1
        listed = ledger.listed(seen.flow, seen.variant, seen.device.kind, seen.stack.resolved)
        verdict = judge(changed, flow_named(seen.flow), listed)
        if verdict.outcome is Outcome.XFAIL:
            hiding.append(seen.cell)
            issues.update(verdict.issues)
    return Row(name, of, len(hiding), dict(issues.most_common()), hiding[0] if hiding else "")


# ------------------------------------------------------------------------------------------------------------- changes


def _failing(change: Callable[[Failure], Failure]) -> Mutation:
    def mutate(seen: Observation) -> Observation | None:
        return dataclasses.replace(seen, error=change(seen.error)) if seen.error else None

    return mutate


def _raised(change: Callable[[Frame], Frame]) -> Mutation:
    return _failing(lambda error: dataclasses.replace(error, frames=_innermost(error.frames, change)))


def _of_another_type(error: Failure) -> Failure:
    return dataclasses.replace(error, type="KeyError" if error.type != "KeyError" else "IndexError")


def _frozen(change: Callable[[Freeze], Freeze]) -> Mutation:
    def mutate(seen: Observation) -> Observation | None:
        return dataclasses.replace(seen, freezes=tuple(map(change, seen.freezes))) if seen.freezes else None

    return mutate


def _froze(change: Callable[[Frame], Frame], place: int = -1) -> Mutation:
    return _frozen(lambda freeze: dataclasses.replace(freeze, frames=_innermost(freeze.frames, change, place)))


def _innermost(frames: tuple[Frame, ...], change: Callable[[Frame], Frame], place: int = -1) -> tuple[Frame, ...]:
    changed = list(frames)
    changed[place] = change(changed[place])
    return tuple(changed)


def _of_another_package(frame: Frame) -> Frame:
    return dataclasses.replace(frame, file=ELSEWHERE)


def _of_another_function(frame: Frame) -> Frame:
    return dataclasses.replace(frame, function=OTHERWISE)


def _trained(change: Callable[[Training], Training | None]) -> Mutation:
    def mutate(seen: Observation) -> Observation | None:
        training = change(seen.training) if seen.training else None
        return dataclasses.replace(seen, training=training) if training else None

    return mutate


def _at(stage: Stage, change: Callable[[Census], Census | None]) -> Mutation:
    def mutate(seen: Observation) -> Observation | None:
        census = seen.census(stage)
        changed = change(census) if census else None
        if changed is None:
            return None
        return dataclasses.replace(seen, stages=tuple(changed if each is census else each for each in seen.stages))

    return mutate


def _other_values(seen: Observation) -> Observation | None:
    """Only where the reload has the trained values: a digest cannot differ more than it does."""
    trained, reloaded = seen.census(Stage.AFTER_TRAINING), seen.census(Stage.RELOAD)
    if trained is None or reloaded is None or trained.subject_sha256 != reloaded.subject_sha256:
        return None
    return _at(Stage.RELOAD, lambda census: dataclasses.replace(census, subject_sha256="other values"))(seen)


def _answers_otherwise(seen: Observation) -> Observation | None:
    reply = seen.reply
    if reply is None or reply.reloaded is None:
        return None
    return dataclasses.replace(seen, reply=dataclasses.replace(reply, reloaded=reply.reloaded + 1))


def _without_effect(seen: Observation) -> Observation | None:
    reply = seen.reply
    if reply is None or not reply.without_adapter:
        return None
    return dataclasses.replace(seen, reply=dataclasses.replace(reply, without_adapter=0.0, reloaded=0.0))


def _more_label_tokens(seen: Observation) -> Observation | None:
    labels = seen.labels
    if labels is None:
        return None
    more = labels.label_tokens + labels.samples // 2
    return dataclasses.replace(seen, labels=dataclasses.replace(labels, label_tokens=more))


def _fewer_rows(seen: Observation) -> Observation | None:
    labels = seen.labels
    if labels is None or seen.training is None:  # an error may end training after any number of rows
        return None
    rows = labels.samples // 2
    half = dataclasses.replace(
        labels, samples=rows, label_tokens=labels.label_tokens // 2, all_masked=labels.all_masked // 2
    )
    return dataclasses.replace(seen, labels=half)


def _half_masked(seen: Observation) -> Observation | None:
    labels = seen.labels
    if labels is None or labels.all_masked == labels.samples // 2:
        return None
    return dataclasses.replace(seen, labels=dataclasses.replace(labels, all_masked=labels.samples // 2))


def _halved(*fields: str) -> Mutation:
    """Not of generations: their eval loss is about 0 whatever the model is, and no check compares its size."""

    def change(training: Training) -> Training | None:
        values = {field: getattr(training, field) for field in fields}
        if any(value is None or not math.isfinite(value) for value in values.values()):
            return None
        halves = {field: value / 2 for field, value in values.items()}
        return dataclasses.replace(training, **halves)

    def mutate(seen: Observation) -> Observation | None:
        rules = RULES[flow_named(seen.flow).objective]
        return None if rules.generated else _trained(change)(seen)

    return mutate


def _set(**fields: object) -> Mutation:
    return _trained(lambda training: dataclasses.replace(training, **fields))  # type: ignore[arg-type]  # fields by name


def _nan_train_loss(training: Training) -> Training:
    return dataclasses.replace(training, loss=(math.nan,) * len(training.loss))


def _other_accuracy(training: Training) -> Training | None:
    """Only where no weight moved: there the accuracy must stay what it was."""
    if training.subject_delta or training.accuracy_after is None:
        return None
    return dataclasses.replace(training, accuracy_after=training.accuracy_after + 0.25)


def _other_rate(training: Training) -> Training:
    return dataclasses.replace(training, learning_rate=tuple(rate / 2 for rate in training.learning_rate_asked))


def _other_norm(training: Training) -> Training | None:
    """Only where no gradient arrived: elsewhere any norm is possible."""
    if any(training.grad_norm):
        return None
    return dataclasses.replace(training, grad_norm=(1.0,) * len(training.grad_norm))


def _lacking(training: Training) -> Training:
    return dataclasses.replace(training, optimizer=dataclasses.replace(training.optimizer, missing=128))


def _more_in_optimizer(training: Training) -> Training:
    return dataclasses.replace(training, optimizer=dataclasses.replace(training.optimizer, extra=128))


def _base_changed(training: Training) -> Training | None:
    if training.frozen is None or not training.frozen.tensors:
        return None
    changed = dataclasses.replace(training.frozen, changed=1, examples=("model.embed_tokens.weight",))
    return dataclasses.replace(training, frozen=changed)


def _one_class_stands(training: Training) -> Training | None:
    """One tensor of a class that trained as a whole stands still."""
    name = next((name for name, seen in training.classes.items() if not seen.unchanged and seen.reached), None)
    if name is None:
        return None
    classes = {**training.classes, name: dataclasses.replace(training.classes[name], unchanged=1, moving_until=None)}
    return dataclasses.replace(training, classes=classes)


def _one_class_unreached(training: Training) -> Training | None:
    """One more tensor, of a class that trained as a whole, never receives a gradient."""
    name = next((name for name, seen in training.classes.items() if not seen.unchanged and seen.reached), None)
    if name is None:
        return None
    gradients = dataclasses.replace(training.gradients, silent=training.gradients.silent + 1)
    changes = {"reached": None, "gradients_until": None, "unchanged": 1, "moving_until": None}
    unreached = dataclasses.replace(training.classes[name], **changes)  # type: ignore[arg-type]  # fields by name
    return dataclasses.replace(training, gradients=gradients, classes={**training.classes, name: unreached})


def _moved(training: Training) -> Training | None:
    return None if training.subject_delta else dataclasses.replace(training, subject_delta=0.1)


def _other_attention(seen: Observation) -> Observation | None:
    attention = seen.attention
    if attention is None or attention.used is None:
        return None
    return dataclasses.replace(seen, attention=dataclasses.replace(attention, used="another"))


def _memory_left(seen: Observation) -> Observation | None:
    memory = seen.memory
    if memory is None:
        return None
    return dataclasses.replace(seen, memory=dataclasses.replace(memory, end_bytes=memory.end_bytes + 65_536))


def _frozen_again(seen: Observation) -> Observation:
    frames = (Frame("elsewhere/caller.py", 1, "call", "freeze(model)"), Frame(ELSEWHERE, 2, "freeze", "p.freeze()"))
    return dataclasses.replace(seen, freezes=(*seen.freezes, Freeze(Stage.TRAINER, 8, 1, frames)))


def _option_dropped(seen: Observation) -> Observation:
    return dataclasses.replace(seen, options_dropped=(*seen.options_dropped, "gradient_checkpointing"))


def _some_trainable(census: Census) -> Census | None:
    """Half of the parameters of a frozen model are trainable."""
    return None if census.trainable else dataclasses.replace(census, trainable=8, trainable_logical=8)


def _some_frozen(census: Census) -> Census | None:
    """Half of the parameters of a model that trains are frozen."""
    return dataclasses.replace(census, trainable=census.trainable // 2) if census.trainable else None


def _accumulated(change: Callable[[StepPair], StepPair]) -> Mutation:
    def mutate(seen: Observation) -> Observation | None:
        pair = seen.deep.accumulation if seen.deep else None
        if seen.deep is None or pair is None or not pair.classes:
            return None
        return dataclasses.replace(seen, deep=dataclasses.replace(seen.deep, accumulation=change(pair)))

    return mutate


def _tenfold(pair: StepPair) -> StepPair:
    """The accumulated gradient has ten times the size, in the same direction."""
    classes = {
        name: dataclasses.replace(each, other=10 * each.one, difference=9 * each.one)
        for name, each in pair.classes.items()
    }
    return dataclasses.replace(pair, classes=classes)


def _turned(pair: StepPair) -> StepPair:
    """The accumulated gradient keeps its size, and points elsewhere."""
    classes = {name: dataclasses.replace(each, difference=each.one + each.other) for name, each in pair.classes.items()}
    return dataclasses.replace(pair, classes=classes)


def _evaluation_ignores(seen: Observation) -> Observation | None:
    if seen.deep is None or seen.deep.evaluation is None:
        return None
    metrics = {
        name: dataclasses.replace(metric, again=metric.as_it_is, scrambled=metric.as_it_is, zeroed=metric.as_it_is)
        for name, metric in seen.deep.evaluation.metrics.items()
    }
    return dataclasses.replace(
        seen, deep=dataclasses.replace(seen.deep, evaluation=dataclasses.replace(seen.deep.evaluation, metrics=metrics))
    )


MUTATIONS: Mapping[str, Mutation] = {
    "the same error, raised in another package": _raised(_of_another_package),
    "the same error, raised by another function": _raised(_of_another_function),
    "the same error at another stage": _failing(lambda error: dataclasses.replace(error, stage=Stage.RELOAD)),
    "another type of error": _failing(_of_another_type),
    "another message of the error": _failing(lambda error: dataclasses.replace(error, message="unrelated")),
    "frozen by another function of the file": _froze(_of_another_function),
    "frozen in another package": _froze(_of_another_package),
    "frozen through another function": _froze(_of_another_function, -2),
    "frozen through another package": _froze(_of_another_package, -2),
    "frozen at another stage": _frozen(lambda freeze: dataclasses.replace(freeze, stage=Stage.AFTER_TRAINING)),
    "fewer parameters frozen": _frozen(lambda freeze: dataclasses.replace(freeze, parameters=freeze.parameters // 2)),
    "frozen by one more line": _frozen_again,
    "some of the frozen parameters trainable": _at(Stage.TRAINER, _some_trainable),
    "half of the trainable parameters frozen": _at(Stage.TRAINER, _some_frozen),
    "trainable parameters change in training": _at(
        Stage.AFTER_TRAINING, lambda census: dataclasses.replace(census, trainable=census.trainable + 8)
    ),
    "a reload that is not trainable": _at(Stage.RELOAD, _some_frozen),
    "other values after a reload": _other_values,
    "other answers after a reload": _answers_otherwise,
    "adapter without effect": _without_effect,
    "changed base weights": _trained(_base_changed),
    "weights moved though frozen": _trained(_moved),
    "weights not finite": _set(subject_finite=False),
    "one more tensor stands still": _trained(_one_class_stands),
    "one more tensor without a gradient": _trained(_one_class_unreached),
    "optimizer lacks parameters": _trained(_lacking),
    "optimizer holds more parameters": _trained(_more_in_optimizer),
    "another learning rate": _trained(_other_rate),
    "gradient norm of a number": _trained(_other_norm),
    "gradient norm NaN": _trained(
        lambda training: dataclasses.replace(training, grad_norm=(math.nan,) * len(training.grad_norm))
    ),
    "wrong number of label tokens": _more_label_tokens,
    "half of the rows": _fewer_rows,
    "half of the rows without labels": _half_masked,
    "eval loss halved": _halved("eval_before", "eval_after"),
    "eval loss after training halved": _halved("eval_after"),
    "eval loss NaN": _set(eval_before=math.nan, eval_after=math.nan),
    "no eval loss": _set(eval_before=None, eval_after=None),
    "train loss NaN": _trained(_nan_train_loss),
    "another accuracy of the same weights": _trained(_other_accuracy),
    "adapters in float16": _at(
        Stage.TRAINER,
        lambda census: dataclasses.replace(census, adapter_dtypes=("float16",)) if census.adapter_dtypes else None,
    ),
    "one parameter more in the model": _at(
        Stage.TRAINER,
        lambda census: dataclasses.replace(census, total=census.total + 1, total_logical=census.total_logical + 1),
    ),
    "another attention": _other_attention,
    "an option dropped": _option_dropped,
    "memory left": _memory_left,
    "accumulated gradient ten times too large": _accumulated(_tenfold),
    "accumulated gradient in another direction": _accumulated(_turned),
    "an evaluation that ignores the model": _evaluation_ignores,
}
"""Every mutation by its name, in the order of the table."""
