"""Formats a census and a comparison for the terminal and as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from finetune_compat.census import wording
from finetune_compat.census.compare import Comparison, Reach, reach
from finetune_compat.census.families import Family
from finetune_compat.census.taken import Taken, Trainer
from finetune_compat.census.verdicts import TargetFinding
from finetune_compat.contract.census import StageCount, Weight, WeightKind
from finetune_compat.contract.records import Area, Stage
from finetune_compat.machine.console import open_console
from finetune_compat.report.wording import PACKAGES

VERSIONS = ("trl", "transformers", "peft", "bitsandbytes")
"""Packages whose versions determine the result of a census."""

NAME = 32
"""Width of the row name: fits the longest text of `wording.way`."""

COUNT = 16
"""Width of a count: fits 10**12 with separators."""

SHARE = 9
"""Width of a percentage with four decimals."""


def print_families(families: Sequence[Family]) -> None:
    """Print the shipped families."""
    lines = [f"{'family':<16}{'parameters':>{COUNT}}  {'model':<34}Transformers from"]
    lines += [f"{f.name:<16}{f.parameters:>{COUNT},}  {f.model:<34}{f.since}" for f in families]
    _print(open_console(), map(Text, lines))


def print_census(taken: Taken, *, tree: bool) -> None:
    """Print one census."""
    out = open_console()
    _print(out, [*_head(taken), Text(), *_stages(taken), Text(), *_areas(taken), Text(), *_targets(taken)])
    if tree:
        out.print()
        out.print(_tree(taken), soft_wrap=True)
    _print(out, [Text(), *_verdicts(taken.findings, taken)])


def print_comparison(before: Taken, after: Taken, changes: Comparison, *, tree: bool) -> None:
    """Print the stages of two censuses, then the changes between them."""
    out = open_console()
    for taken in (before, after):
        _print(out, [*_head(taken), Text(), *_stages(taken), Text()])
        if tree:
            out.print(_tree(taken), soft_wrap=True)
            out.print()
    _print(out, _changes(before, after, changes))


def _print(console: Console, lines: Iterable[Text]) -> None:
    for line in lines:
        line.rstrip()
        # Lines have a fixed layout. A narrower terminal wraps them, so nothing is cut off.
        console.print(line, soft_wrap=True)


# ---------------------------------------------------------------------------------------------------------- one census


def _head(taken: Taken) -> Iterator[Text]:
    versions = taken.table.versions
    yield Text(wording.titled(taken), style="bold")
    yield Text("   " + ", ".join(f"{PACKAGES[name]} {versions[name]}" for name in VERSIONS if name in versions))
    yield Text(f"   {wording.request(taken)}")
    yield Text(f"   {wording.effort(taken)}")


def _stages(taken: Taken) -> Iterator[Text]:
    heads = ("trainable", "of stored", "%", "of logical", "%")
    yield Text(f"{'stage':<{NAME}}" + "".join(_right(head, index) for index, head in enumerate(heads)))
    for count in taken.table.stages:
        yield Text(f"{count.stage:<{NAME}}" + "".join(_right(cell, i) for i, cell in enumerate(_cells(count))))
    if taken.trainers:
        yield Text(str(Stage.TRAINER))
        yield from (_trainer(trainer) for trainer in taken.trainers)
        yield Text(wording.AT_TRAINER, style="dim")


def _right(cell: str, column: int) -> str:
    return f"{cell:>{SHARE if column in (2, 4) else COUNT}}"


def _cells(count: StageCount) -> tuple[str, ...]:
    return (
        wording.number(count.trainable),
        wording.number(count.total),
        wording.percent(count.trainable, count.total),
        wording.number(count.total_logical),
        wording.percent(count.trainable_logical, count.total_logical),
    )


def _trainer(trainer: Trainer) -> Text:
    line = f"  {wording.way(trainer.way):<{NAME - 2}}{trainer.trainable:>{COUNT},}  {wording.listed(trainer)}"
    return Text(line, style="yellow" if trainer.issue or trainer.unmeasured else "")


def _areas(taken: Taken) -> Iterator[Text]:
    """Trainable elements by area. An area where nothing trains is a row of zeros, on purpose."""
    stages = taken.table.stages
    yield Text(f"{'trainable in':<{NAME}}" + "".join(f"{count.stage:>{COUNT}}" for count in stages))
    for area in Area:
        numbers = [count.by_area[area].trainable if area in count.by_area else None for count in stages]
        if any(number is not None for number in numbers):
            yield Text(f"{area:<{NAME}}" + "".join(f"{'-' if n is None else f'{n:,}':>{COUNT}}" for n in numbers))
    seats = stages[-1].adapters_on
    for area, count in seats.items():
        yield Text(f"  {f'on {area}':<{NAME - 2}}" + " " * COUNT * (len(stages) - 1) + f"{count.trainable:>{COUNT},}")


def _targets(taken: Taken) -> Iterator[Text]:
    effective, patterns = taken.table.effective, taken.lora.patterns
    default = effective.target_modules if effective and not patterns else ()
    width = max([len(pattern) for pattern in (*patterns, *default)] + [len("target")]) + 2
    yield Text(f"{'target':<{width}}{'matches':>8}  {'in':<11}at")
    for pattern in default:
        for weight in taken.table.weights:
            if weight.adapter and f".{weight.path}".endswith(f".{pattern}"):
                yield Text(f"{pattern:<{width}}{weight.count:>8}  {weight.area:<11}{weight.path}")
    if default:
        yield Text("target_modules is not set: these are PEFT's own targets for models of this type", style="dim")
    for pattern in patterns:
        matched = [weight for weight in taken.table.weights if pattern in weight.patterns]
        for weight in matched:
            yield Text(f"{pattern:<{width}}{weight.count:>8}  {weight.area:<11}{weight.path}")
        if not matched:
            yield Text(f"{pattern:<{width}}{0:>8}", style="yellow")
    if effective and effective.target_parameters and not taken.lora.options.get("target_parameters"):
        names = ", ".join(effective.target_parameters)
        yield Text(f"PEFT turned targets of this model into target_parameters: {names}", style="dim")


def _verdicts(findings: Sequence[TargetFinding], taken: Taken) -> Iterator[Text]:
    if not findings:
        yield Text(wording.NO_FINDINGS, style="bold green")
    for finding in findings:
        yield Text.assemble((finding.code, "bold red"), f" {wording.sentence(finding, taken)}")
        yield Text(f"     {wording.advice(finding, taken)}")


# ------------------------------------------------------------------------------------------------------------- the tree


@dataclass
class _Node:
    """A path component: its children, and the weight whose path ends here."""

    below: dict[str, _Node] = field(default_factory=dict)
    weight: Weight | None = None


def _tree(taken: Taken) -> Tree:
    root = _Node()
    for weight in taken.table.weights:
        node = root
        for part in weight.path.split("."):
            node = node.below.setdefault(part, _Node())
        node.weight = weight
    tree = Tree(taken.table.model_class)
    _grow(tree, root)
    return tree


def _grow(tree: Tree, node: _Node) -> None:
    """Add the children of `node`. A chain of single children shares one line (example: `layers.[0-27]`)."""
    for name, child in node.below.items():
        label, end = name, child
        while len(end.below) == 1 and end.weight is None:
            ((part, end),) = end.below.items()
            label = f"{label}.{part}"
        _grow(tree.add(_label(label, end.weight)), end)


def _label(name: str, weight: Weight | None) -> Text:
    if weight is None:
        return Text(name)
    kind = "" if weight.kind is WeightKind.LINEAR else f" {weight.kind}"
    line = Text(f"{name}{kind} {wording.shape(weight.shape)}")
    if weight.adapter and weight.adapter.a:
        sizes = f"  lora_A {wording.shape(weight.adapter.a)}, lora_B {wording.shape(weight.adapter.b)}"
        line.append(sizes, style="green")
    elif weight.adapter:
        line.append("  a copy of it trains", style="green")
    return line


# --------------------------------------------------------------------------------------------------------- a comparison


def _changes(before: Taken, after: Taken, changes: Comparison) -> Iterator[Text]:
    yield Text(f"from {before.stack} to {after.stack}", style="bold")
    if changes.same:
        yield Text(wording.NOTHING_CHANGES, style="bold green")
    for move in changes.moves:
        yield Text(f"  {move.before} is now {move.after}")
    yield from (Text(f"  gone: {_described(weight)}") for weight in changes.gone)
    yield from (Text(f"  new: {_described(weight)}") for weight in changes.new)
    yield from (Text(f"  {_reach(change)}") for change in changes.reaches)
    for shift in changes.shifts:
        what = f"{shift.stage}, {wording.shift(shift)}"
        yield Text(f"  {what:<{NAME}}{shift.before:>{COUNT},} -> {shift.after:>{COUNT},}")
    for old, now in changes.trainers:
        why = "; ".join(filter(None, (wording.listed(old), wording.listed(now))))
        yield Text(f"  trainer, {wording.way(old.way)}: {old.trainable:,} -> {now.trainable:,}  {why}")
    for title, findings, taken in (
        ("no longer", changes.gone_findings, before),
        ("from now on", changes.new_findings, after),
        ("on both", changes.lasting_findings, after),
    ):
        for finding in findings:
            yield Text.assemble(f"  {title}: ", (finding.code, "bold red"), f" {wording.sentence(finding, taken)}")


def _described(weight: Weight) -> str:
    return f"{weight.path} ({weight.kind}, {wording.shape(weight.shape)}, {weight.count} of them)"


def _reach(change: Reach) -> str:
    return f"{change.pattern} matches {_matches(change.before)} -> {_matches(change.after)}"


def _matches(by_area: Any) -> str:
    return ", ".join(f"{count} in {area}" for area, count in by_area.items()) or "nothing"


# ----------------------------------------------------------------------------------------------------------------- JSON


def as_json(taken: Taken) -> str:
    """A census as JSON text: the stage table of the stack, and the findings."""
    return json.dumps(_data(taken), indent=2)


def comparison_as_json(before: Taken, after: Taken, changes: Comparison) -> str:
    """Two censuses and the changes between them, as JSON text."""
    data = {"before": _data(before), "after": _data(after), "changes": dataclasses.asdict(changes)}
    return json.dumps(data, indent=2)


def _data(taken: Taken) -> dict[str, Any]:
    return {
        "subject": taken.subject.title,
        "family": taken.subject.family.name if taken.subject.family else None,
        "stack": taken.stack,
        "quantization": taken.quantization,
        "dtype": taken.dtype,
        "lora": dict(taken.lora.options),
        **dataclasses.asdict(taken.table),
        "targets": {pattern: reach(taken.table, pattern) for pattern in taken.lora.patterns},
        "trainer": [dataclasses.asdict(trainer) for trainer in taken.trainers],
        "verdicts": [_verdict(finding, taken) for finding in taken.findings],
    }


def _verdict(finding: TargetFinding, taken: Taken) -> dict[str, Any]:
    return {
        "code": finding.code,
        "patterns": finding.patterns,
        "weights": [weight.path for weight in finding.weights],
        "elements": finding.elements,
        "sentence": wording.sentence(finding, taken),
        "advice": wording.advice(finding, taken),
    }
