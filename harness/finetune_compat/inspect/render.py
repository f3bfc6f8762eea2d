"""Format an inspection for a terminal. Lays out facts and findings; judges nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import assert_never

from rich.console import Console
from rich.text import Text

from finetune_compat.checks.codes import Severity
from finetune_compat.contract.errors import ExitCode
from finetune_compat.inspect.beside import CARD, Beside
from finetune_compat.inspect.config import AdapterConfig
from finetune_compat.inspect.findings import Finding
from finetune_compat.inspect.inspection import Inspection
from finetune_compat.inspect.loading import Loading
from finetune_compat.inspect.names import places
from finetune_compat.inspect.saved import ClassFacts, Saved
from finetune_compat.machine.console import open_console
from finetune_compat.machine.units import counted
from finetune_compat.report import style
from finetune_compat.report.terminal import wrapped

_INDENT = 3
_UNITS = (("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000))
_HEADS = ("class", "tensors", "elements", "dtype", "min", "max", "norm", "")
_TO_THE_LEFT = ("class", "dtype", "")


def print_inspection(seen: Inspection, console: Console | None = None) -> None:
    """Print the facts of the adapter and its tensors, and the findings."""
    out = console or open_console()
    for line in _lines(seen, out.width):
        line.rstrip()
        out.print(line, soft_wrap=True)


def _lines(seen: Inspection, width: int) -> Iterator[Text]:
    saved = seen.saved
    head = wrapped(f"{saved.directory}  {_identity(saved)}", width, 0)
    head[0].stylize("bold", 0, len(str(saved.directory)))
    yield from head
    for fact in (*_asked(saved), *_beside(saved.beside), *([_fit(seen.loading)] if seen.loading else [])):
        yield from wrapped(fact, width, 0)
    if saved.weights.tensors:
        yield from (Text(), *_table(saved.classes))
    for finding in seen.findings:
        yield from (Text(), *_finding(finding, width))
    yield from (Text(), *_conclusion(seen, width))


# ---------------------------------------------------------------------------------------------------------- the facts


def _identity(saved: Saved) -> str:
    config = saved.config
    recorded = (
        ("base", config.base_model_name_or_path),
        ("task", config.task_type),
        ("PEFT", config.peft_version),
    )
    facts = [f"{key} {value or 'not recorded'}" for key, value in recorded]
    return ", ".join((config.method, *facts, _size(saved.weights.size)))


def _size(size: int) -> str:
    return next((f"{size / unit:.1f} {name}" for name, unit in _UNITS if size >= unit), f"{size} bytes")


def _asked(saved: Saved) -> Iterator[str]:
    """What the configuration asks for."""
    config = saved.config
    if not config.is_lora:
        return
    updates = Counter((layer.rank_asked, layer.alpha, layer.scaling) for layer in saved.layers)
    for (rank, alpha, scaling), number in updates.items():
        there = f" in {number:,} of {len(saved.layers):,} modules" if len(updates) > 1 else ""
        yield f"r {rank}, alpha {alpha:g}, scaling {scaling:.4g}{there}"
    yield f"targets {_targets(config)}"
    if config.modules_to_save:
        yield f"saved whole {', '.join(config.modules_to_save)}"


def _beside(beside: Beside) -> Iterator[str]:
    """What lies beside the adapter."""
    others = [f"{name} {version}" for name, version in beside.versions.items() if name != "peft"]
    if others:
        yield f"saved with {', '.join(others)} ({CARD})"
    if log := beside.log:
        series = (("loss", log.losses), ("gradient norm", log.gradient_norms))
        told = [f"{name} {each[0].value:.4g} -> {each[-1].value:.4g}" for name, each in series if each]
        yield f"trained {', '.join((counted(log.steps, 'step'), *told))} ({log.place})"


def _targets(config: AdapterConfig) -> str:
    modules = config.target_modules
    if isinstance(modules, str):
        return modules
    return ", ".join((*places(sorted(modules or ())), *sorted(config.target_parameters or ()))) or "not recorded"


def _fit(loading: Loading) -> str:
    versions = f"PEFT {loading.versions['peft']}, Transformers {loading.versions['transformers']}"
    return f"under {loading.stack} ({versions}) {loading.fitting:,} tensors fit {loading.base or 'no base'}"


def _table(classes: Sequence[ClassFacts]) -> Iterator[Text]:
    rows = [_HEADS, *(_row(facts) for facts in classes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
    for index, row in enumerate(rows):
        line = Text("  ".join(_aligned(*cell) for cell in zip(row, _HEADS, widths, strict=True)))
        if index and row[-1]:
            line.stylize("yellow", line.plain.rindex(row[-1]))
        yield line


def _aligned(cell: str, head: str, width: int) -> str:
    return cell.ljust(width) if head in _TO_THE_LEFT else cell.rjust(width)


def _row(facts: ClassFacts) -> tuple[str, ...]:
    values = facts.values
    shown = (None, None, None) if values is None else (values.minimum, values.maximum, values.norm)
    numbers = ["-" if number is None else f"{number:.3g}" for number in shown]
    counts = (f"{facts.tensors:,}", f"{facts.elements:,}", " ".join(facts.dtypes))
    return (facts.name, *counts, *numbers, _remark(facts))


def _remark(facts: ClassFacts) -> str:
    """Remark on the unusual values of a class; empty if there are none."""
    if facts.values is None:
        return "not read"
    zero = "all zero" if facts.all_zero == facts.tensors else f"{facts.all_zero:,} all zero"
    broken = ((facts.values.nan, "NaN"), (facts.values.infinite, "infinite"))
    remarks = [f"{number:,} {kind}" for number, kind in broken if number]
    return ", ".join([*([zero] if facts.all_zero else []), *remarks])


# -------------------------------------------------------------------------------------------------------- the opinions


def _finding(finding: Finding, width: int) -> Iterator[Text]:
    label, colour = _severity(finding.severity)
    for line in wrapped(f"{finding.code}  {label}: {finding.sentence}", width, 0):
        line.stylize(colour)
        yield line
    yield from wrapped(f"To do: {finding.advice}", width, _INDENT)
    if finding.flows:
        listed = f"; listed as {', '.join(finding.issues)}" if finding.issues else ""
        seen = f"Seen in the flows {', '.join(finding.flows)}{listed}."
        yield from wrapped(seen, width, _INDENT)


def _severity(severity: Severity) -> tuple[str, str]:
    """Label and colour of a severity. The label carries all information without the colour."""
    match severity:
        case Severity.UNHEALTHY:
            return "UNHEALTHY", style.of_exit_code(ExitCode.UNHEALTHY)
        case Severity.NOTE:
            return "note", ""
    assert_never(severity)


def _conclusion(seen: Inspection, width: int) -> list[Text]:
    counts = Counter(finding.severity for finding in seen.findings)
    bad, notes = counts[Severity.UNHEALTHY], counts[Severity.NOTE]
    found = f"{bad} finding{'' if bad == 1 else 's'}" if bad else "nothing wrong was found"
    word = "Healthy" if seen.exit_code is ExitCode.HEALTHY else "Unhealthy"
    lines = wrapped(f"{word}: {found}, {notes} note{'' if notes == 1 else 's'}.", width, 0)
    for line in lines:
        line.stylize(style.of_exit_code(seen.exit_code))
    return lines
