"""The judge of cells: an observation, the catalog's row, and the deviations listed for the cell -> a verdict.

The test inside the cell and the host call the same judge. No failing check is a pass, if parameters, gradients,
weights, rows and loss were all judged. Exactly the listed signature is a strict xfail. Anything else fails: an unlisted
bug, a listed bug that does not appear, and a failure that differs from the listed one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from finetune_compat.checks.case import Case, before_training, freeze_line
from finetune_compat.checks.cell_checks import ENGINE
from finetune_compat.checks.codes import CODES, DEEP_CHECKS, AppliesTo
from finetune_compat.contract.catalog import Flow
from finetune_compat.contract.records import Failure, Frame, Freeze, Observation
from finetune_compat.contract.verdict import Deviation, Opinion, Outcome, Result, Symptom, Verdict

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
    opinions = ENGINE.opinions(case, deep=seen.deep is not None)
    applying = tuple(entry for entry in listed if _applies(entry, seen))
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
    if not failed and not listed:
        unjudged = [] if case.refused else _unjudged(opinions)
        if unjudged:
            return Outcome.INFRASTRUCTURE, f"could not tell: nothing to judge for {', '.join(unjudged)}"
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

    A cell ends in one way: an error or a symptom. If the check of a listed bug is blocked by another listed bug, the
    cell must end as listed for the blocked one: no other evidence of it remains.
    """
    gaps = [gap for entry in listed for gap in _missing_frames(case, entry)]
    frozen_by = [entry for entry in listed if entry.frame or entry.called_from]
    unlisted = [freeze for freeze in case.seen.freezes if not any(shows(freeze, entry) for entry in frozen_by)]
    if frozen_by and unlisted and not gaps:
        gaps.append(f"also frozen by {'; '.join(freeze_line(freeze) for freeze in unlisted)}")
    blocked = [entry for entry in listed if entry.check not in failed]
    missed = [entry for entry in blocked or listed if not _ends_as_listed(case, entry)]
    if missed:
        gaps.append(f"expected {' and '.join(_listed_endings(entry) for entry in missed)}, seen: {_ending(case)}")
    return gaps


def _shows(case: Case, entry: Deviation, failed: Collection[str]) -> bool:
    """Whether the check of an entry failed with the listed lines; if it lists no line, with the listed ending."""
    if entry.check not in failed:
        return False
    return not _missing_frames(case, entry) if entry.frame or entry.called_from else _ends_as_listed(case, entry)


def _pass_reason(case: Case) -> str:
    if case.refused and case.seen.error is not None:
        return f"refused, with the reason: {case.seen.error.message}"
    return "as stated"


def _format(failed: Mapping[str, str]) -> str:
    return "; ".join(f"{code} {message}" for code, message in failed.items())


def _missing_frames(case: Case, entry: Deviation) -> list[str]:
    if not (entry.frame or entry.called_from) or any(shows(freeze, entry) for freeze in case.seen.freezes):
        return []
    through = f" called from {entry.called_from}" if entry.called_from else ""
    return [f"nothing was frozen by {entry.frame or 'a line'}{through} (seen: {_lines(case)})"]


def shows(freeze: Freeze, entry: Deviation) -> bool:
    """Whether a line of the listed file (`frame`) froze, called directly from the other listed file (`called_from`)."""
    by, called_from = (freeze.frames[-1:], freeze.frames[-2:-1])
    return _is_in(by, entry.frame) and _is_in(called_from, entry.called_from)


def _is_in(frames: Sequence[Frame], path: str | None) -> bool:
    return path is None or any(frame.file.endswith(path) for frame in frames)


def _ends_as_listed(case: Case, entry: Deviation) -> bool:
    """Whether the cell ends as listed: with the error, with the symptom, or without an error if neither is listed."""
    error = case.seen.error
    if error is not None and not case.refused:
        return entry.error is not None and entry.error in f"{error.type}: {error.message}"
    if entry.symptom is not None:
        return case.symptom is entry.symptom
    return entry.error is None and case.symptom is not Symptom.UNKNOWN


def _listed_endings(entry: Deviation) -> str:
    endings = [f"an error with {entry.error!r}"] if entry.error else []
    endings += [f"an eval loss that {_VERB[entry.symptom]}"] if entry.symptom else []
    return " or ".join(endings) or "no error"


def _ending(case: Case) -> str:
    error = case.seen.error
    return f"{error.type}: {error.message}" if error else f"an eval loss that {_VERB[case.symptom]}"


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
