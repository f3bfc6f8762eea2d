"""Checks of what lies beside a saved adapter. Each is a pure function that returns None or a finding."""

from __future__ import annotations

import math
from collections.abc import Sequence

from finetune_compat.checks.engine import NotApplicable
from finetune_compat.inspect.beside import Logged, TrainerLog
from finetune_compat.inspect.case import Case, Seen, so_many
from finetune_compat.inspect.names import Part
from finetune_compat.inspect.value_checks import ever_trained


def gradients_arrived(case: Case) -> Seen | None:
    log = _log(case)
    norms = [entry.value for entry in log.gradient_norms]
    if not norms:
        raise NotApplicable("the trainer's log has no gradient norm")
    if wrong := _not_finite("gradient norm", log.gradient_norms):
        return _of_training(case, log, wrong)
    if any(norms):
        return None
    so = "this adapter was never trained" if _untouched(case) else "this training changed nothing"
    return _of_training(case, log, f"gradient norm 0.0 {_at_all(norms)}: {so}")


def loss_is_a_number(case: Case) -> Seen | None:
    log = _log(case)
    if not log.losses:
        raise NotApplicable("the trainer's log has no loss")
    losses = [entry.value for entry in log.losses]
    if wrong := _not_finite("loss", log.losses):
        return _of_training(case, log, wrong)
    if log.rewarded or any(losses):
        return None
    return _of_training(case, log, f"loss 0.0 {_at_all(losses)}: Trainer logs a loss of NaN as 0")


def _log(case: Case) -> TrainerLog:
    if case.saved.beside.log is None:
        raise NotApplicable("no trainer's log lies beside the adapter")
    return case.saved.beside.log


def _not_finite(name: str, entries: Sequence[Logged]) -> str | None:
    """The numbers at the end of a log that are not finite. Earlier ones are not judged: float16 skips such steps."""
    last = max((place for place, entry in enumerate(entries) if math.isfinite(entry.value)), default=-1)
    broken = entries[last + 1 :]
    return f"{name} {broken[0].value} from step {broken[0].step} on" if broken else None


def _at_all(entries: Sequence[float]) -> str:
    return "at the only logged step" if len(entries) == 1 else f"at all {len(entries):,} logged steps"


def _of_training(case: Case, log: TrainerLog, what: str) -> Seen:
    trl = case.saved.beside.versions.get("trl")
    by = f"Trained on TRL {trl}, " if trl else "The trainer logged "
    return Seen(f"{by}{what} ({log.place}).", (log.place,))


def _untouched(case: Case) -> bool:
    try:
        return ever_trained(case) is not None
    except NotApplicable:
        return False


def added_rows_saved(case: Case) -> Seen | None:
    tokens, rows = case.saved.beside.tokens, case.vocabulary
    if tokens is None:
        raise NotApplicable("no tokenizer lies beside the adapter")
    if rows is None:
        raise NotApplicable("the vocabulary of the base is not known")
    saved = case.saved
    whole = [t.shape[0] for t in saved.weights.tensors if saved.names[t.name].part is Part.EMBEDDING and t.shape]
    if tokens <= max(rows, *whole, 0) or any(name.part is Part.TOKENS for name in saved.names.values()):
        return None
    added = so_many(tokens - rows, "row", "was added to the vocabulary and is", "were added to the vocabulary and are")
    return Seen(f"{added} not in the file: the tokenizer has {tokens:,} tokens, the base {rows:,} rows.")
