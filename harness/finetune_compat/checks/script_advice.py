"""Advice for a finding on a script, in terms of the classes and lines of that script. Pure."""

from __future__ import annotations

from finetune_compat.checks.codes import CODES
from finetune_compat.checks.script_checks import by_the_script, from_the_script
from finetune_compat.contract.records import Freeze, Stage
from finetune_compat.contract.script import Run


def advice(run: Run, code: str) -> str:
    """What to do about the failing check `code` of `run`."""
    if code == "E801" and run.label_names == ():
        return _without_labels(run)
    froze = next(iter(_of(run, code)), None)
    if froze is None or not froze.frames:
        return CODES[code].advice
    return _unfreeze(run, from_the_script(froze))


def _of(run: Run, code: str) -> tuple[Freeze, ...]:
    """The freezes that make `code` fail."""
    if code not in ("C103", "C104", "C105"):
        return ()
    late = code == "C105"
    found = [freeze for freeze in run.seen.freezes if (freeze.stage is Stage.TRAINING) is late]
    return tuple(sorted(found, key=by_the_script))


def _without_labels(run: Run) -> str:
    arguments = run.arguments or "the trainer's arguments"
    names = f'label_names=["labels"] in {arguments}'
    if not run.peft_config or run.task_type is not None:
        return f"Set {names}."
    return f'Set task_type in {run.peft_config}, for example "CAUSAL_LM", or {names}.'


def _unfreeze(run: Run, freeze: Freeze) -> str:
    first, last = freeze.frames[0], freeze.frames[-1]
    line = f"{first.file}:{first.line}"
    if by_the_script(freeze):
        return f"Leave out what {line} does, or set requires_grad back to True after it."
    package = last.file.partition("/")[0]
    release = f"another release of {package}"
    if freeze.stage is Stage.TRAINING:
        return f"Set requires_grad of the adapter back to True after {line}, or use {release}: this one freezes there."
    if freeze.stage is Stage.TRAINER:
        trainer = run.trainer or "the trainer"
        return f"Pass the base model and peft_config to {trainer}, or use a release that does not freeze there."
    return (
        f"{line} freezes the adapter: set requires_grad back to True after it, or load with is_trainable=True and "
        f"without inference_mode; or use {release}."
    )
