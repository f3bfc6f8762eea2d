"""The judge of cells: an observation, the catalog's row, and the deviations listed for the cell -> a verdict.

The test inside the cell and the host call the same judge. No failing check is a pass, if parameters, gradients,
weights, rows and loss were all judged. Exactly the listed signature is a strict xfail. Anything else fails: an unlisted
bug, a listed bug that does not appear, and a failure that differs from the listed one.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence

from finetune_compat.checks.case import Case, before_training, freeze_line
from finetune_compat.checks.cell_checks import ENGINE
from finetune_compat.checks.codes import CODES, DEEP_CHECKS, ENDING, AppliesTo
from finetune_compat.checks.measures import MEASURES, cut_off, gradients_apart, same_measure
from finetune_compat.checks.reads import fields_of, reading, unrecorded
from finetune_compat.contract.catalog import Flow
from finetune_compat.contract.records import Area, Failure, Frame, Freeze, Observation, Stage
from finetune_compat.contract.verdict import Deviation, Opinion, Outcome, Result, Symptom, Verdict, worst

# Errors of an exhausted machine or network. They say nothing about a version.
_MACHINE_TYPES = (
    "MemoryError",
    "OutOfMemoryError",
    "ConnectionError",
    "ConnectionRefusedError",
    "ConnectionResetError",
    "TimeoutError",
)
_MACHINE_WORDS = (
    "No space left on device",
    "Disk quota exceeded",
    "Input/output error",
    "Too many open files",
    "Cannot allocate memory",
    "can't allocate memory",
    "can't start new thread",
    "CUDA out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "uncorrectable ECC error",
    "NVIDIA driver on your system is too old",
    "We couldn't connect to 'http",  # Transformers, about the hub
    "FlashAttention2 has been toggled on, but it cannot be used",  # Transformers, about a package that no lock contains
)

# Errors that are raised because the machine has no GPU. The same versions may work on another machine.
_WITHOUT_GPU = (
    "Torch not compiled with CUDA",
    "No CUDA GPUs",
    "Found no NVIDIA driver",
    "requires a GPU",
    "needs a GPU",
    "needs a CUDA device",
    "GPU is required",
    "only supported on GPU",
    "No GPU ",
    "No available GPU",
    "None of the available devices",  # Transformers, for any bitsandbytes, if it checks for accelerators only
    "Your setup doesn't support bf16",
    "requires Ampere",  # tf32
    "and a supported device",  # mixed precision of Accelerate
    "can only be used on CUDA",
    "CUDA is not available",
    "CUDA is required",  # Transformers, for a bitsandbytes without CPU kernels
    "torch.cuda.is_available() is False",
    "0 active drivers",  # Triton
    "Cannot access accelerator device",
    "from the 'CUDA' backend",
    "cannot find any torch accelerator",  # Unsloth
)

_GROUPS = {
    "trainable parameters": ("C104",),
    "gradients": ("G401",),
    "weights": ("W701",),
    "rows": ("L501",),
    "loss": ("E801", "E802", "E807"),
}
"""Checks by what they judge. Only a cell with a pass in every group can pass."""


def judge(seen: Observation, flow: Flow, listed: Sequence[Deviation]) -> Verdict:
    """The verdict on one observation.

    Args:
        seen: what the cell recorded.
        flow: the catalog's row for `seen.flow`.
        listed: ledger deviations whose windows and variants include this cell.
    """
    case = Case(seen, flow)
    spent = next((error for error in _errors(seen) if machine_failed(error)), None)
    if spent is not None:
        reason = f"the machine failed: {spent.type}: {spent.message}"
        return Verdict(seen.cell, Outcome.INFRASTRUCTURE, reason, Symptom.UNKNOWN)
    opinions = unrecorded(ENGINE.opinions(case, deep=seen.deep is not None), case)
    applying = tuple(entry for entry in listed if _applies(entry, seen))
    outcome, reason = _conclude(case, opinions, applying)
    beyond = next((entry.unmeasured for entry in applying if entry.unmeasured), "")
    if beyond and outcome is Outcome.XFAIL:
        outcome, reason = Outcome.FAIL, f"looks like {reason}; not yet measured on this release ({beyond})"
    elif beyond:  # nothing is claimed about these releases
        applying, beyond = (), ""
        outcome, reason = _conclude(case, opinions, applying)
    failed = {opinion.code for opinion in opinions if opinion.result is Result.FAIL}
    evident = applying if outcome is Outcome.XFAIL else [entry for entry in applying if _shows(case, entry, failed)]
    return Verdict(
        cell=seen.cell,
        outcome=outcome,
        reason=reason,
        symptom=case.symptom,
        opinions=opinions,
        issues=tuple(dict.fromkeys(entry.issue for entry in applying)),
        links=tuple(dict.fromkeys(entry.link for entry in applying)),
        refused=case.refused,
        signs=case.signs,
        shown=tuple(dict.fromkeys(entry.issue for entry in evident)),
        untrained=not case.refused and seen.training is None and seen.error is not None and before_training(seen.error),
        kind=worst(entry.kind for entry in applying),
        unmeasured=beyond,
    )


def not_recorded(cell: str, reason: str) -> Verdict:
    """The verdict on a cell that was started, or planned, but has no observation."""
    return Verdict(cell, Outcome.INFRASTRUCTURE, reason, Symptom.UNKNOWN)


def _errors(seen: Observation) -> tuple[Failure, ...]:
    """The error that ended the flow, and the errors that ended measurements of the deep tier."""
    return (*((seen.error,) if seen.error else ()), *(seen.deep.failures.values() if seen.deep else ()))


def _applies(entry: Deviation, seen: Observation) -> bool:
    """Whether the device has the feature that the entry needs, and the entry's check applies to cells and has data."""
    measured = seen.deep is not None or entry.check not in DEEP_CHECKS
    asked = AppliesTo.CELL in CODES[entry.check].applies_to
    return asked and measured and (entry.feature is None or entry.feature in seen.device.features)


def missing_for(entry: Deviation, seen: Observation, flow: Flow) -> frozenset[str]:
    """Fields that the evidence of a listed deviation needs and `seen` lacks: those that its check reads, and those that
    the comparison with its line, error or symptom reads. None if the deviation does not apply to `seen`.
    """
    if not _applies(entry, seen):
        return frozenset()
    with reading(seen, seen.lacks) as (copy, read):
        missing = fields_of(entry.check, Case(copy, flow), read)
        _shows(Case(copy, flow), entry, {entry.check})
        return missing | frozenset(read)


def machine_failed(error: Failure) -> bool:
    """Whether an exhausted machine or network caused the error, and not a version."""
    return error.type in _MACHINE_TYPES or any(words in error.message for words in _MACHINE_WORDS)


def without_gpu(message: str) -> bool:
    """Whether an error with this message means that the machine has no GPU."""
    return any(words in message for words in _WITHOUT_GPU)


def unable(error: Failure) -> str:
    """The reason of a verdict on a run that this machine cannot do."""
    return f"this machine cannot run it: {error.type}: {error.message}"


def _conclude(case: Case, opinions: Sequence[Opinion], listed: Sequence[Deviation]) -> tuple[Outcome, str]:
    failed = {opinion.code: opinion.message for opinion in opinions if opinion.result is Result.FAIL}
    # Also where an issue is listed: a deviation that could not be seen did not stay away.
    unjudged = [] if failed or case.refused else _unjudged(opinions)
    if unjudged:
        return Outcome.INFRASTRUCTURE, f"could not tell: nothing to judge for {', '.join(unjudged)}"
    if not failed and not listed:
        return Outcome.PASS, _pass_reason(case)
    if not listed:
        return Outcome.FAIL, f"not listed: {_format(failed)}"
    names = ", ".join(dict.fromkeys(entry.issue for entry in listed))
    if not failed:
        return Outcome.FAIL, f"{names} is listed for this cell and did not appear: it may be fixed; narrow its window"
    blocked = {opinion.code for opinion in opinions if opinion.result is Result.BLOCKED}
    expected = {entry.check for entry in listed}
    if not set(failed) <= expected <= set(failed) | blocked:
        return Outcome.FAIL, f"not as listed for {names} ({', '.join(sorted(expected))}): {_format(failed)}"
    gaps = _gaps(case, listed, failed)
    if gaps:
        missing = "; ".join(gaps)
        return Outcome.FAIL, f"fails as listed for {names}, with other evidence: {missing}. {_format(failed)}"
    return Outcome.XFAIL, f"{names}: {_format(failed)}"


def _unjudged(opinions: Sequence[Opinion]) -> list[str]:
    """The groups in which no check passed, because the observation has no data for them."""
    passed = {opinion.code for opinion in opinions if opinion.result is Result.PASS}
    return [group for group, codes in _GROUPS.items() if passed.isdisjoint(codes)]


def _gaps(case: Case, listed: Sequence[Deviation], failed: Mapping[str, str]) -> list[str]:
    """Evidence that the listed deviations require in addition to failing checks, and that is missing.

    A cell ends in one way: an error or a symptom. If F001 is listed and fails, the cell must end with its error. If the
    check of a listed bug is blocked by another listed bug, the cell must end as listed for the blocked one: no other
    evidence of it remains.
    """
    gaps = [gap for entry in listed for gap in (*_freeze_gaps(case, entry), *_measure_gaps(case, entry))]
    unlisted = [freeze for freeze in case.seen.freezes if not any(_froze(freeze, entry) for entry in listed)]
    if unlisted and not gaps:
        gaps.append(f"also frozen by {'; '.join(freeze_line(freeze) for freeze in unlisted)}")
    loud = [entry for entry in listed if entry.check == ENDING and ENDING in failed]
    blocked = [entry for entry in listed if entry.check not in failed]
    missed = [entry for entry in loud or blocked or listed if not _ends_as_listed(case, entry)]
    if missed:
        gaps.append(f"expected {' and '.join(_listed_endings(entry) for entry in missed)}, seen: {_ending(case)}")
    return [*gaps, *_eval_loss_gaps(case)]


def _shows(case: Case, entry: Deviation, failed: Collection[str]) -> bool:
    """Whether the check of an entry failed with the listed lines; if it lists no line, with the listed ending. If an
    error is what is listed, with both.
    """
    if entry.check not in failed or _freeze_gaps(case, entry):
        return False
    by_lines_alone = entry.froze is not None and entry.check != ENDING
    return by_lines_alone or _ends_as_listed(case, entry)


def _pass_reason(case: Case) -> str:
    if case.refused and case.seen.error is not None:
        return f"refused, with the reason: {case.seen.error.message}"
    return "as stated"


def _format(failed: Mapping[str, str]) -> str:
    return "; ".join(f"{code} {message}" for code, message in failed.items())


def _freeze_gaps(case: Case, entry: Deviation) -> list[str]:
    """What is missing of a listed freeze: its call chain, its stage, or parameters that something else froze."""
    if entry.froze is None:
        return []
    own = [freeze for freeze in case.seen.freezes if _froze(freeze, entry)]
    if not own:
        return [f"nothing was frozen by {entry.froze} (seen: {_lines(case)})"]
    stage = _freezing_stage(case, entry)
    if late := next((freeze.stage for freeze in own if freeze.stage is not stage), None):
        return [f"frozen at {late}, expected at {stage}"]
    frozen, missing = sum(freeze.parameters for freeze in own), _untrainable_adapters(case, entry)
    return [] if missing in (None, frozen) else [f"the listed line froze {frozen:,} of {missing:,} frozen parameters"]


def _freezing_stage(case: Case, entry: Deviation) -> Stage:
    """The stage at which a listed freeze happens. A trainer that makes the adapters also wraps the model."""
    match entry.check:
        case "C103" if case.flow.handed_over:
            return Stage.PEFT
        case "C105":
            return Stage.TRAINING
        case _:
            return Stage.TRAINER


def _untrainable_adapters(case: Case, entry: Deviation) -> int | None:
    """Adapter parameters that are not trainable at the stage of the check. Where the constructor of the trainer raised
    an error, those that were trainable when it was called. None without adapters.
    """
    census = case.census(Stage.TRAINER if entry.check in ("C104", "C105") else Stage.PEFT)
    adapters = census.by_area.get(Area.ADAPTER) if census else None
    if census is None or adapters is None:
        return None
    # Whatever else is trainable, the listed line did not freeze it: the numbers then differ.
    return adapters.trainable if entry.check == ENDING else adapters.total - census.trainable


def _froze(freeze: Freeze, entry: Deviation) -> bool:
    return entry.froze is not None and shows(freeze, entry)


def shows(freeze: Freeze, entry: Deviation) -> bool:
    """Whether the listed call chain froze."""
    return _ends_in(freeze.frames, entry.froze)


_COMPREHENSIONS = ("<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>")
"""Frames that Python 3.12 and later does not have: the line belongs to the function around it."""


def _ends_in(frames: Sequence[Frame], chain: str | None) -> bool:
    """Whether the innermost frames are those of `chain`, whatever their lines. None is any chain."""
    if chain is None:
        return True
    own = [f"{frame.file}::{frame.function}" for frame in _without_comprehensions(frames)]
    wanted = chain.split(" -> ")
    innermost = own[len(own) - len(wanted) :]
    return len(own) >= len(wanted) and all(map(_is_place, innermost, wanted))


def _without_comprehensions(frames: Sequence[Frame]) -> Iterator[Frame]:
    for around, frame in zip((None, *frames), frames, strict=False):
        if frame.function not in _COMPREHENSIONS or around is None or around.file != frame.file:
            yield frame


def _is_place(frame: str, wanted: str) -> bool:
    return frame == wanted or frame.endswith(f"/{wanted}")


def _measure_gaps(case: Case, entry: Deviation) -> list[str]:
    """How what a check measured differs from what is listed."""
    if entry.area is not None and not cut_off(case, entry.area):
        return [f"not exactly the tensors of {entry.area} are without gradients"]
    if entry.apart is not None:
        apart = gradients_apart(case)
        if apart is not None and same_measure(apart, entry.apart):
            return []
        seen = "no such difference" if apart is None else f"a difference of {apart:.4g}"
        return [f"{entry.check} measured {seen}, not of {entry.apart:g}"]
    if entry.measured is None:
        return []
    found = MEASURES[entry.check](case)
    if found is not None and same_measure(found, entry.measured):
        return []
    return [f"{entry.check} measured {'no single value' if found is None else f'{found:.4g}'}, not {entry.measured:g}"]


SAME_EVALUATION = 1e-3
"""Relative difference within which the reported and the recomputed eval loss must agree as much after training as
before. On a CPU they agree to 4e-7; an accelerator may round products to 10 bits.
"""


def _eval_loss_gaps(case: Case) -> list[str]:
    """Releases define eval loss in different ways, but each in the same way before and after training."""
    training = case.seen.training
    if training is None:
        return []
    pairs = (
        (training.eval_before, training.reference_before),
        (training.eval_after, training.reference_after),
    )
    ratios = [reported / own for reported, own in pairs if reported is not None and own]
    if len(ratios) < len(pairs) or math.isclose(*ratios, rel_tol=SAME_EVALUATION) or math.isnan(sum(ratios)):
        return []
    return [f"eval loss is {ratios[0]:.4f} of its recomputed value before training, {ratios[1]:.4f} after it"]


def _ends_as_listed(case: Case, entry: Deviation) -> bool:
    """Whether the cell ends as listed: with the error, with the symptom, or without an error if neither is listed."""
    error = case.seen.error
    if error is not None and not case.refused:
        return (
            entry.error is not None
            and f"{error.type}: {error.message}".startswith(entry.error)
            and entry.stage in (None, error.stage)
            and _ends_in(error.frames, entry.raised)
        )
    if entry.symptom is not None:
        return case.symptom is entry.symptom
    return entry.error is None and case.symptom is not Symptom.UNKNOWN


def _listed_endings(entry: Deviation) -> str:
    at = f" at {entry.stage}" if entry.stage else ""
    by = f", raised by {entry.raised}" if entry.raised else ""
    endings = [f"{entry.error!r}{at}{by}"] if entry.error else []
    endings += [f"an eval loss that {_VERB[entry.symptom]}"] if entry.symptom else []
    return " or ".join(endings) or "no error"


def _ending(case: Case) -> str:
    error = case.seen.error
    if error is None:
        return f"an eval loss that {_VERB[case.symptom]}"
    by = f", raised by {error.frames[-1].file}::{error.frames[-1].function}" if error.frames else ""
    return f"{error.type}: {error.message} at {error.stage}{by}"


_VERB = {
    Symptom.FALLS: "falls",
    Symptom.BARELY: "barely moves",
    Symptom.FLAT: "stays flat",
    Symptom.RISES: "rises",
    Symptom.NOT_FINITE: "is not finite",
    Symptom.ERROR: "ends in an error",
    Symptom.UNKNOWN: "is missing",
}


def _lines(case: Case) -> str:
    return "; ".join(freeze_line(freeze) for freeze in case.seen.freezes) or "no freeze"
