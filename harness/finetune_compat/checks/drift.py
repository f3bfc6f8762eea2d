"""Objective drift: a stack computes other values than the neighbouring stack for the same inputs. Pure.

This module compares two observations of one cell on two neighbouring stacks of an axis. Base weights, rows and seed are
the same, so the libraries cause every difference. The checks judge learning; this module does not.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.contract.records import REPORTED, Labels, Observation, Stage, Training

TOLERANCE = 1e-5
"""Relative difference of losses that is ignored. Measured: float32 sums in another order differ by 2e-7."""

SHORT_TOLERANCE = 2e-3
"""The same for weights in bfloat16 or float16: a bfloat16 has 8 bits of fraction (2 ** -9 = 0.00195), so an output that
is rounded the other way differs by so much.
"""

TRAINED_TOLERANCE = 1e-3
"""Relative difference of the loss of the first training step that is ignored. The loss is computed with dropout, and
releases before Transformers 5.0 log four decimals.
"""


class DriftKind(StrEnum):
    """What differs."""

    INPUTS = "inputs"
    """Different token ids or labels reach the model for the same rows."""
    MODEL = "model output"
    """Different logits for the same inputs and weights."""
    ADAPTER = "adapter weights"
    """Different logits, because the trainer replaced the adapters or they were initialised differently."""
    DEFINITION = "loss definition"
    """`eval_loss` is computed differently from the logits."""
    TRAINED = "training loss"
    """The loss of the first step, before any update, differs for the same rows."""
    BATCH = "effective batch"
    """A step has a different number of rows."""
    DTYPE = "adapter dtype"
    """Adapters are trained in a different floating-point type."""
    SCALING = "adapter scaling"
    """The update of the adapters is multiplied by another factor. Only scripts record it."""
    LISTED = "listed issue"
    """A listed issue that changes the computation applies to a script on one side only."""
    WEIGHTS = "weights"
    """The base weights differ, so nothing else can be compared."""


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two observations of one cell."""

    kind: DriftKind
    size: float | None
    """Relative change of the loss before any update. Infinite if only one of the two is finite; None if unknown, or if
    the kind has no such loss.
    """
    detail: str
    """The value before and after, as text."""


@dataclass(frozen=True, slots=True)
class Drift:
    """The same kind of change in cells of two neighbouring stacks."""

    before: str
    after: str
    kind: DriftKind
    cells: tuple[str, ...]
    """Flow and variant of each."""
    smallest: float | None
    largest: float | None
    """Relative changes of the loss before any update, by magnitude."""
    detail: str
    """`Change.detail` of the cell that changed most."""
    moved: tuple[str, ...]
    """Packages whose version differs (example: `trl 0.28.0 -> 0.29.1`)."""


@dataclass(frozen=True, slots=True)
class Definition:
    """Consecutive stacks whose `eval_loss` is not the mean negative log-likelihood of the label tokens."""

    stacks: tuple[str, ...]
    cells: tuple[str, ...]
    """Flow and variant of each cell, on the first stack."""
    ratio: float
    """`eval_loss` divided by that mean, in the cell where the ratio is farthest from 1."""


def drifts(ordered: Sequence[str], observations: Iterable[Observation], same_axis: SameAxis) -> tuple[Drift, ...]:
    """Every change between neighbouring stacks of an axis.

    Args:
        ordered: names of the stacks, each axis in the order of its versions.
        observations: observations on all these stacks.
        same_axis: whether two stacks vary the same package.
    """
    by_stack: dict[str, dict[str, Observation]] = {name: {} for name in ordered}
    for seen in observations:
        by_stack[seen.stack.name][_name(seen)] = seen
    observed = [name for name in ordered if by_stack[name]]
    pairs = [(a, b) for a, b in itertools.pairwise(observed) if same_axis(a, b)]
    return tuple(drift for a, b in pairs for drift in _between(a, b, by_stack[a], by_stack[b]))


SameAxis = Callable[[str, str], bool]


def definitions(
    ordered: Sequence[str], observations: Iterable[Observation], same_axis: SameAxis
) -> tuple[Definition, ...]:
    """The stacks on which `eval_loss` is not the mean over label tokens. Arguments: the same as for `drifts`."""
    off: dict[str, list[tuple[str, float]]] = {name: [] for name in ordered}
    for seen in observations:
        ratio = _ratio(seen.training)
        if ratio is not None and not math.isclose(ratio, 1, rel_tol=TOLERANCE):
            off[seen.stack.name].append((_name(seen), ratio))
    found: list[Definition] = []
    for name, last in zip(ordered, (None, *ordered), strict=False):
        here = _definition_of(name, off[name])
        before = found[-1] if found and found[-1].stacks[-1] == last else None
        if here and before and last and same_axis(last, name) and _alike(before, here):
            found[-1] = replace(before, stacks=(*before.stacks, name))
        elif here:
            found.append(here)
    return tuple(found)


def _definition_of(stack: str, off: Sequence[tuple[str, float]]) -> Definition | None:
    if not off:
        return None
    farthest = max((ratio for _, ratio in off), key=lambda ratio: abs(ratio - 1))
    return Definition((stack,), tuple(sorted(name for name, _ in off)), farthest)


def _alike(one: Definition, other: Definition) -> bool:
    return one.cells == other.cells and math.isclose(one.ratio, other.ratio, rel_tol=TOLERANCE)


def changes(before: Observation, after: Observation) -> tuple[Change, ...]:
    """The differences between two observations of one cell; empty if either did not train."""
    a, b = before.training, after.training
    if a is None or b is None or before.weights_sha256 is None or after.weights_sha256 is None:
        return ()
    if before.weights_sha256 != after.weights_sha256:
        return (Change(DriftKind.WEIGHTS, None, "the digests of the base weights differ"),)
    outputs = _inputs(a, b) or _model(before, after, a, b)
    trained = None if outputs else _trained(before, after, a, b)
    found = (outputs, _definition(a, b), trained, _batch(before, after), _dtype(before, after))
    return tuple(change for change in found if change is not None)


def script_changes(before: Observation, after: Observation) -> tuple[Change, ...]:
    """The differences between two observations of one trainer of a user's script; empty if either did not train.

    Weights of a script are not digested. So a difference on the same rows may also come from other initial weights.
    """
    a, b = before.training, after.training
    if a is None or b is None:
        return ()
    noise = max(_noise(before), _noise(after))
    outputs = _inputs(a, b) or _loss_before(a, b, noise)
    trained = None if outputs else _trained(before, after, a, b)
    found = (outputs, trained, _batch(before, after), _dtype(before, after))
    return tuple(change for change in found if change is not None)


def _noise(seen: Observation) -> float:
    """Relative difference of the loss before any update that rounding explains in the dtypes of the weights."""
    short = any("16" in name for census in seen.stages for name in census.dtypes)
    return SHORT_TOLERANCE if short else TOLERANCE


def _loss_before(a: Training, b: Training, noise: float) -> Change | None:
    """The change of the evaluation loss before any update; None if it was evaluated on other rows, or on none."""
    size = _relative(a.eval_before, b.eval_before)
    if a.evaluated is None or b.evaluated is None or size is None or abs(size) <= noise:
        return None
    return Change(DriftKind.MODEL, size, f"loss before any update {a.eval_before:.6f} -> {b.eval_before:.6f}")


def scaling_changes(before: Mapping[str, int] | None, after: Mapping[str, int] | None) -> tuple[Change, ...]:
    """The change between two counts of adapted modules by scaling; empty if one is unknown or both are equal."""
    if not before or not after or before == after:
        return ()
    one, other = (", ".join(f"{factor} in {count} modules" for factor, count in of.items()) for of in (before, after))
    return (Change(DriftKind.SCALING, None, f"{one} -> {other}"),)


def _between(a: str, b: str, before: Mapping[str, Observation], after: Mapping[str, Observation]) -> Iterable[Drift]:
    found: dict[DriftKind, list[tuple[str, Change]]] = {}
    for name in before:
        for change in changes(before[name], after[name]) if name in after else ():
            found.setdefault(change.kind, []).append((name, change))
    moved = _moved(next(iter(before.values())), next(iter(after.values())))
    for kind, of_kind in found.items():
        sizes = sorted((abs(change.size) for _, change in of_kind if change.size is not None))
        most = max(of_kind, key=lambda item: abs(item[1].size or 0))[1]
        smallest, largest = (sizes[0], sizes[-1]) if sizes else (None, None)
        yield Drift(a, b, kind, tuple(name for name, _ in of_kind), smallest, largest, most.detail, moved)


def _inputs(a: Training, b: Training) -> Change | None:
    one, other = a.evaluated, b.evaluated
    if one is None or other is None or (one.ids_sha256, one.labels_sha256) == (other.ids_sha256, other.labels_sha256):
        return None
    return Change(DriftKind.INPUTS, _relative(a.eval_before, b.eval_before), f"{_per_row(one)} -> {_per_row(other)}")


def _per_row(labels: Labels) -> str:
    ends = f", {labels.ends} of {labels.samples} rows with an end token"
    return f"{labels.label_tokens / labels.samples:g} label tokens a row{ends}"


def _model(before: Observation, after: Observation, a: Training, b: Training) -> Change | None:
    size = _relative(a.reference_before, b.reference_before)
    if size is None or abs(size) <= TOLERANCE:
        return None
    kind = DriftKind.ADAPTER if _other_adapters(before, after) else DriftKind.MODEL
    return Change(kind, size, f"mean loss of the label tokens {a.reference_before:.6f} -> {b.reference_before:.6f}")


def _other_adapters(before: Observation, after: Observation) -> bool:
    """Whether training began with different adapter values. False if dtypes differ, because rounding changes values."""
    one, other = before.census(Stage.TRAINER), after.census(Stage.TRAINER)
    if one is None or other is None or not one.adapter_dtypes or one.adapter_dtypes != other.adapter_dtypes:
        return False
    return None not in (one.subject_sha256, other.subject_sha256) and one.subject_sha256 != other.subject_sha256


def _definition(a: Training, b: Training) -> Change | None:
    one, other = _share(a), _share(b)
    size = _relative(one, other)
    if one is None or other is None or size is None or abs(size) <= TOLERANCE:
        return None
    return Change(DriftKind.DEFINITION, size, f"eval_loss is {one:.4f} -> {other:.4f} of the mean over label tokens")


def _trained(before: Observation, after: Observation, a: Training, b: Training) -> Change | None:
    """The change of the training loss; None if the rows of the two observations differ."""
    if before.labels is None or after.labels is None or not (a.loss and b.loss and a.grad_norm and b.grad_norm):
        return None
    if _rows(before.labels) != _rows(after.labels):
        return None
    size, norms = _relative(a.loss[0], b.loss[0]), _relative(a.grad_norm[0], b.grad_norm[0])
    if norms is not None and math.isinf(norms):
        size = norms  # the gradient is finite on one side only
    if size is None or abs(size) <= TRAINED_TOLERANCE:
        return None
    return Change(
        DriftKind.TRAINED,
        size,
        f"loss of the first step {a.loss[0]:.4f} -> {b.loss[0]:.4f}, "
        f"norm of its gradient {a.grad_norm[0]:.4f} -> {b.grad_norm[0]:.4f}",
    )


def _rows(labels: Labels) -> tuple[int, str, str]:
    return labels.samples, labels.ids_sha256, labels.labels_sha256


def _ratio(training: Training | None) -> float | None:
    share = None if training is None else _share(training)
    return share if share is not None and math.isfinite(share) else None


def _share(training: Training) -> float | None:
    """`eval_loss` divided by the mean over label tokens; None if the mean is unknown, zero or not finite."""
    before, reference = training.eval_before, training.reference_before
    if before is None or not reference or not math.isfinite(reference):
        return None
    return before / reference


def _batch(before: Observation, after: Observation) -> Change | None:
    one, other = _rows_a_step(before), _rows_a_step(after)
    if one is None or other is None or one == other:
        return None
    return Change(DriftKind.BATCH, None, f"{one:g} -> {other:g} rows a step")


def _rows_a_step(seen: Observation) -> float | None:
    steps = len(seen.training.grad_norm) if seen.training else 0
    return seen.labels.samples / steps if seen.labels and steps else None


def _dtype(before: Observation, after: Observation) -> Change | None:
    one, other = before.census(Stage.TRAINER), after.census(Stage.TRAINER)
    if one is None or other is None or one.adapter_dtypes == other.adapter_dtypes:
        return None
    return Change(DriftKind.DTYPE, None, f"{_named(one.adapter_dtypes)} -> {_named(other.adapter_dtypes)}")


def _named(dtypes: Sequence[str]) -> str:
    return " and ".join(dtypes) or "none"


def _relative(a: float | None, b: float | None) -> float | None:
    """`b / a - 1`. Infinite if only one of both is finite; None if one is missing, neither is finite, or `a` is 0."""
    if a is None or b is None:
        return None
    if math.isfinite(a) != math.isfinite(b):
        return math.inf
    return None if a == 0 or not math.isfinite(a) else b / a - 1


def _moved(a: Observation, b: Observation) -> tuple[str, ...]:
    one, other = a.stack.resolved, b.stack.resolved
    return tuple(
        f"{name} {one.get(name, '-')} -> {other.get(name, '-')}"
        for name in REPORTED
        if one.get(name) != other.get(name)
    )


def _name(seen: Observation) -> str:
    return parse_cell(seen.cell).name
