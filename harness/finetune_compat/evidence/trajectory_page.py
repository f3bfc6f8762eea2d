"""The page of trajectories, in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from finetune_compat.contract.trajectory import ROWS, STEPS, WAYS, Task, Way
from finetune_compat.evidence.trajectory_record import (
    FALLEN,
    LARGEST,
    RESIDUAL,
    SLOWER,
    WINDOW,
    Agreement,
    Measured,
    Ratio,
    agreement,
    of,
    ratio,
)
from finetune_compat.report.markdown import plain, table
from finetune_compat.report.wording import shortened

_AGREEMENT = f"""\
A LoRA adapter on a tiny Llama, {STEPS} steps of {ROWS} rows, without dropout. Each way must give the losses of the
plain one (one batch, one process). `agrees`: no loss differs by more than {LARGEST:.0e} of itself, and the mean of the
signed differences is at most {RESIDUAL:.0e}. The number is the largest difference. The rows of SFT have different
lengths: the mean of the means of parts of a step then differs from the mean over its labels. Two processes also end
with equal weights; for GRPO only this is compared, because each process draws its own completions. On a CPU,
padding-free rows are kept apart by their positions alone; TRL recommends it with flash attention only. Written by
`nox -s trajectories`.\
"""

_SPEED = f"""\
Steps until the mean of {WINDOW} training losses has fallen to {FALLEN:.0%} of the first, with the same seeds on each
stack. `slower` or `faster`: the 95 % interval of the ratio to the stack above excludes 1. The last two columns are the
test of the test: the same stack with {SLOWER:g} of its learning rate, and with its inverse.\
"""


_Pair = tuple[Task, Way]


def page(record: Mapping[str, Measured]) -> str:
    """The page of the stacks in `record`, in its order."""
    ways: list[_Pair] = [(task, way) for task, listed in WAYS.items() for way in listed if way is not Way.PLAIN]
    parts = [
        "# Do ways to run one training agree?",
        _AGREEMENT,
        table(("way", *(f"`{name}`" for name in record)), [_row(task, way, record) for task, way in ways]),
        "## What differs or fails",
        _or_nothing(list(_deviations(record, ways))),
        "## Does a release learn as fast?",
        _SPEED,
        table(
            ("stack", "seeds at the target", "mean steps", "ratio to the stack above", "slower rate", "faster rate"),
            list(_speeds(record)),
        ),
        "## Measured",
        "\n".join(f"- {plain(_measured(name, stack))}" for name, stack in record.items()),
    ]
    return "\n\n".join(parts) + "\n"


def _agreement(stack: Measured, task: Task, way: Way) -> Agreement | None:
    run = of(stack, task, way)
    return agreement(run, of(stack, task, Way.PLAIN)) if run else None


def _row(task: Task, way: Way, record: Mapping[str, Measured]) -> list[str]:
    return [f"{task}, {way}", *(_cell(_agreement(stack, task, way)) for stack in record.values())]


def _cell(found: Agreement | None) -> str:
    if found is None:
        return "not in this release"
    return found.word if found.largest is None else f"{found.word} ({found.largest:.0e})"


def _or_nothing(rows: list[list[str]]) -> str:
    return table(("way", "stack", "what", "mean difference", "where"), rows) if rows else "Nothing."


def _deviations(record: Mapping[str, Measured], ways: list[_Pair]) -> Iterator[list[str]]:
    for task, way in ways:
        for name, stack in record.items():
            found = _agreement(stack, task, way)
            if found and found.word != "agrees":
                mean = "" if found.residual is None else f"{found.residual:+.1e}"
                yield [f"{task}, {way}", f"`{name}`", found.word, mean, plain(shortened(found.why))]


def _speeds(record: Mapping[str, Measured]) -> Iterator[list[str]]:
    above: Measured | None = None
    for name, stack in record.items():
        speed = stack.speed
        reached = [steps for steps in speed.usual if steps is not None]
        yield [
            f"`{name}`",
            f"{len(reached)} of {len(speed.usual)}",
            f"{sum(reached) / len(reached):.1f}" if reached else "",
            _told(ratio(speed.usual, above.speed.usual)) if above else "",
            _told(ratio(speed.slower, speed.usual)),
            _told(ratio(speed.faster, speed.usual)),
        ]
        above = stack


def _told(found: Ratio | None) -> str:
    return (
        "cannot be told" if found is None else f"{found.word}: {found.mean:.2f} ({found.low:.2f} to {found.high:.2f})"
    )


def _measured(name: str, stack: Measured) -> str:
    versions = ", ".join(f"{package} {version}" for package, version in stack.versions.items())
    return f"{name}: {versions}; {stack.measured}, commit {stack.commit[:12]}."
