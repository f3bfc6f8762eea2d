"""The report as one HTML page without network or scripts, for small screens and dark mode too."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import assert_never

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from finetune_compat.contract.errors import ExitCode
from finetune_compat.contract.foreign_text import inert
from finetune_compat.contract.records import REPORTED, Frame, Observation, to_json
from finetune_compat.contract.verdict import Kind
from finetune_compat.report import charts, measurements, origin, wording
from finetune_compat.report.exhibits import Cell, Exhibit, again, exhibits_of
from finetune_compat.results.causes import Group
from finetune_compat.results.lines import CellLine, Mark, count_columns
from finetune_compat.results.order import same_axis
from finetune_compat.results.summary import StackSummary, Summary, Tally

MOST_CAUSES = 200
"""Maximum number of causes on a page. More indicate a missing grouping rule; the files have all causes."""

_URGENCY = ("fail", "bug", "machine", "listed", "limit", "pass")


def render(
    summary: Summary, observations: Mapping[str, Observation], asked: Callable[[str], bool] | None = None
) -> str:
    """The whole run: verdict, window, causes with some full cells, drift, and the cells that do not pass.

    Args:
        summary: the run.
        observations: observations of the run by cell.
        asked: whether to show a cell id in full; None: some cells of every cause.
    """
    exhibits = exhibits_of(summary, observations, asked)
    # Failures first. The letters are the same as in the other reports of the run.
    lettered = [(wording.marker(i), group) for i, group in enumerate(summary.groups)]
    causes = sorted(lettered, key=lambda item: _URGENCY.index(tone_of_mark(item[1].mark, item[1].kind)))
    shown = {item.here.line.cell: item for item in exhibits}

    lines = {line.cell: line for stack in summary.stacks for line in stack.lines}

    def shown_of(group: Group) -> list[Exhibit]:
        return [] if asked else [shown[cell] for cell in group.cells if cell in shown]

    return rendered(
        "run.html",
        summary=summary,
        today=datetime.now(UTC).date(),
        asked=asked is not None,
        exhibits=exhibits,
        found=sum(asked(line.cell) for stack in summary.stacks for line in stack.lines) if asked else 0,
        causes=causes[:MOST_CAUSES],
        left_out=len(causes[MOST_CAUSES:]),
        shown_of=shown_of,
        unshown_of=lambda group: len(group.cells) - len(shown_of(group)),
        again_of=lambda group: again(lines[group.cells[0]]),
        letters={cell: letter for letter, group in causes[:MOST_CAUSES] for cell in group.cells},
        drift_rows=[measurements.drift_row(drift) for drift in summary.drifts],
        news=[(stack, _news(stack)) for stack in summary.stacks],
        deep_rows=_deep_rows,
    )


def _news(stack: StackSummary) -> list[CellLine]:
    return [line for line in stack.lines if line.flow and line.mark is not Mark.PASS]


def _deep_rows(stack: StackSummary) -> list[tuple[str, ...]]:
    return [measurements.deep_row(f"{line.flow}[{line.variant}]", line.deep) for line in stack.lines if line.deep]


def rendered(template: str, **values: object) -> str:
    """Render a page of templates/. Templates can use the wording and the charts."""
    return _environment().get_template(template).render(values)


def asset(name: str) -> str:
    """The text of a file in templates/ that is no template: a style sheet or a script."""
    return files("finetune_compat.report").joinpath("templates", name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    loader = PackageLoader("finetune_compat.report", "templates")
    found = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: inert(value) if type(value) is str else value,
    )
    found.globals.update(
        wording=wording,
        measurements=measurements,
        origin=origin,
        style=Markup(asset("style.css")),  # noqa: S704 - a file of this package
        same_axis=same_axis,
        count_columns=count_columns,
        tone_of_mark=tone_of_mark,
        tone_of_tally=tone_of_tally,
        tone_of_exit_code=tone_of_exit_code,
        stage_chart=stage_chart,
        loss_chart=loss_chart,
        packages=packages,
        raw=raw,
        source=source,
    )
    found.filters["gated"] = lambda value, word: word(value)
    return found


# --------------------------------------------------------------------------------------------------------------- tones


def tone_of_mark(mark: Mark, kind: Kind | None = None) -> str:
    """CSS class, and so colour, of a cell's verdict. Of the xfails, only a bug of a release is red."""
    match mark:
        case Mark.PASS | Mark.REFUSED:
            return "pass"
        case Mark.XFAIL if kind is Kind.UPSTREAM:
            return "bug"
        case Mark.XFAIL:
            return "limit" if kind is Kind.PLATFORM else "listed"
        case Mark.FAIL:
            return "fail"
        case Mark.INFRASTRUCTURE | Mark.UNINSTALLABLE:
            return "machine"
    assert_never(mark)


def tone_of_tally(tally: Tally) -> str:
    """CSS class of the worst of many cells."""
    return tone_of_mark(*tally.worst)


def tone_of_exit_code(code: ExitCode) -> str:
    """CSS class of a conclusion."""
    if code is ExitCode.HEALTHY:
        return "pass"
    return "fail" if code is ExitCode.UNHEALTHY else "machine"


# ------------------------------------------------------------------------------------------------------------ exhibits


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing and its legend."""

    legend: Markup
    drawing: Markup


def stage_chart(exhibit: Exhibit) -> Chart | None:
    """Trainable parameters by stage, of this cell and of `before`; None if nothing was counted."""
    sides = [side for side in (exhibit.before, exhibit.here) if side]
    columns = [
        column
        for column in count_columns(side.line for side in sides)
        if any(column.of(side.line) is not None for side in sides)
    ]
    if not columns:
        return None
    series = [
        charts.Bars(
            side.line.stack,
            [column.of(side.line) for column in columns],
            [wording.absence(side.line, column) for column in columns],
        )
        for side in sides
    ]
    kinds = ["outlined", "filled"][-len(series) :]
    names = [(charts.key(kind), bars.name) for kind, bars in zip(kinds, series, strict=True)]
    heads = [wording.column_head(column) for column in columns]
    return Chart(_legend(names), charts.stage_chart(wording.STAGES_TITLE, heads, series))


def loss_chart(exhibit: Exhibit) -> Chart | None:
    """Losses of this cell and of a cell to compare it with, on one plot; None if this cell has no losses.

    A failing cell is compared with its correct twin, or else with `before`; a passing cell the other way round.
    """
    here = _curve(exhibit.here, exhibit.here.line.flow)
    if here is None:
        return None
    before = exhibit.before and _curve(exhibit.before, f"{exhibit.before.line.flow} on {exhibit.before.line.stack}")
    twin = exhibit.twin and _curve(exhibit.twin, f"{exhibit.twin.line.flow} (correct)")
    other = before or twin if exhibit.here.line.mark is Mark.PASS else twin or before
    curves = [other, here] if other else [here]
    drawn = charts.loss_chart(wording.LOSSES_TITLE, curves)
    return Chart(_legend([(charts.swatch(i), curve.name) for i, curve in enumerate(curves)]), drawn) if drawn else None


def _curve(cell: Cell, name: str) -> charts.Curve | None:
    training = cell.seen.training
    if training is None:
        return None
    return charts.Curve(name, training.loss, training.eval_before, training.eval_after)


def _legend(names: Sequence[tuple[Markup, str]]) -> Markup:
    items = Markup().join(Markup("<li>{}{}</li>").format(sign, name) for sign, name in names)
    return Markup('<ul class="legend">{}</ul>').format(items)


@dataclass(frozen=True, slots=True)
class Package:
    """A package with its versions in two environments."""

    name: str
    before: str
    here: str
    moved: bool


def packages(exhibit: Exhibit) -> list[Package]:
    """Versions of this cell and of `before`. Packages with different versions come first."""
    here = exhibit.here.seen.stack.resolved
    before = exhibit.before.seen.stack.resolved if exhibit.before else {}
    names = [name for name in REPORTED if name in here or name in before]
    rows = [_package(name, before, here, compared=exhibit.before is not None) for name in names]
    return sorted(rows, key=lambda row: not row.moved)


def _package(name: str, before: Mapping[str, str], here: Mapping[str, str], *, compared: bool) -> Package:
    one, other = before.get(name, wording.ABSENT), here.get(name, wording.ABSENT)
    return Package(name, one, other, compared and one != other)


_SOURCES = {
    "trl": "huggingface/trl/blob/v{version}/{file}",
    "transformers": "huggingface/transformers/blob/v{version}/src/{file}",
    "peft": "huggingface/peft/blob/v{version}/src/{file}",
    "accelerate": "huggingface/accelerate/blob/v{version}/src/{file}",
    "datasets": "huggingface/datasets/blob/{version}/src/{file}",
    "bitsandbytes": "bitsandbytes-foundation/bitsandbytes/blob/{version}/{file}",
    "torch": "pytorch/pytorch/blob/v{version}/{file}",
}
"""Where a package's files are on github.com, at the tag of a release."""


def source(frame: Frame, versions: Mapping[str, str]) -> str:
    """The URL of a frame's line in the source of the release; empty for other files, and versions without a tag."""
    package = frame.file.partition("/")[0]
    version = versions.get(package, "").partition("+")[0]
    tagged = re.fullmatch(r"[0-9]+(\.[0-9]+)*(rc[0-9]+|\.post[0-9]+)?", version)
    if package not in _SOURCES or not tagged or ".." in frame.file or not re.fullmatch(r"[\w./-]+", frame.file):
        return ""
    return f"https://github.com/{_SOURCES[package].format(version=version, file=frame.file)}#L{frame.line}"


def raw(seen: Observation) -> str:
    """The observation as indented JSON."""
    return json.dumps(json.loads(to_json(seen)), indent=1)
