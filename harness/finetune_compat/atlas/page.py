"""The atlas as one HTML page. It loads nothing and works without scripts; one script of its own adds filters."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from finetune_compat.atlas import wording
from finetune_compat.atlas.answers import answers, best
from finetune_compat.atlas.issues import Chain, Line, Sighting
from finetune_compat.atlas.record import Record, news
from finetune_compat.atlas.sources import source
from finetune_compat.atlas.strip import drawn
from finetune_compat.atlas.survey import Cell, Column, Square, State, Survey
from finetune_compat.checks.codes import CODES
from finetune_compat.contract.catalog import Flow
from finetune_compat.contract.records import Frame
from finetune_compat.report.html import asset, rendered
from finetune_compat.report.wording import shortened
from finetune_compat.results.lines import OWN_FILES, line_of
from finetune_compat.results.order import AXES

MOST_CHAINS = 3
"""Maximum number of call chains that the line of an issue shows."""


@dataclass(frozen=True, slots=True)
class Like:
    """Cells of one square with the same state for the same reason."""

    state: State
    cells: tuple[Cell, ...]
    issues: tuple[str, ...]
    reason: str
    frame: Frame | None
    """The line of a library that raised or froze."""


def render(survey: Survey, lines: Sequence[Line], record: Record) -> str:
    """The page."""
    script = asset("atlas.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    groups = [(axis, columns) for axis in (*AXES, "") if (columns := survey.on_axis(axis))]
    return rendered(
        "atlas.html",
        survey=survey,
        lines=lines,
        titles={line.issue.id: line.issue.title for line in lines},
        best=best(survey),
        answers=answers(survey),
        news=news(record),
        before=record.before,
        groups=groups,
        states=tuple(State),
        sightings=tuple(Sighting),
        say=wording,
        script=Markup(script),  # noqa: S704 - a file of this package
        digest=digest,
        atlas_style=Markup(asset("atlas.css")),  # noqa: S704 - likewise
        drawn=drawn,
        anchor=anchor,
        likes=likes,
        chains=lambda line: line.chains[:MOST_CHAINS],
        more_chains=lambda line: max(0, len(line.chains) - MOST_CHAINS),
        placed=placed,
        place=place,
        cell_text=cell_text,
        chain_head=chain_head,
        reference=reference,
    )


def anchor(flow: Flow, column: Column) -> str:
    """The id of a square's cells."""
    return f"{flow.name}--{column.stack}"


def reference(link: str) -> str:
    """A link of the ledger from the page: sections of the documents are in the same checkout."""
    return link if link.startswith("https://") else f"../../{link}"


def likes(square: Square) -> tuple[Like, ...]:
    """The cells of a square by state and reason, the most serious first."""
    found: dict[tuple[State, tuple[str, ...], str], list[Cell]] = {}
    for cell in square.cells:
        issues = cell.sight.verdict.shown or cell.sight.verdict.issues
        reason = "" if issues else reason_of(cell)
        found.setdefault((cell.state, issues, reason), []).append(cell)
    ordered = sorted(found.items(), key=lambda item: tuple(State).index(item[0][0]))
    return tuple(
        Like(state, tuple(cells), issues, reason, _frame(cells[0])) for (state, issues, reason), cells in ordered
    )


def reason_of(cell: Cell) -> str:
    """Why a cell without a known issue does not train: the error, or the failing checks with their titles."""
    verdict, seen = cell.sight.verdict, cell.sight.seen
    if cell.state is State.TRAINS:
        return ""
    if seen and seen.error:
        return shortened(f"{seen.error.type}: {seen.error.message}")
    return "; ".join(f"{code} {CODES[code].title}" for code in verdict.failing) or shortened(verdict.reason)


def _frame(cell: Cell) -> Frame | None:
    seen = cell.sight.seen
    if seen is None or cell.state in (State.TRAINS, State.UNKNOWN):
        return None
    chains = [seen.error.frames] if seen.error else [freeze.frames for freeze in seen.freezes]
    frames = [frame for frame in (chains[0] if chains else ()) if not frame.file.startswith(OWN_FILES)]
    return frames[-1] if frames else None


def placed(cell: Cell, frame: Frame) -> Markup:
    """The place of `frame` in the versions of a cell, linked to its source."""
    return place(frame, cell.sight.seen.stack.resolved if cell.sight.seen else {})


def place(frame: Frame, versions: Mapping[str, str]) -> Markup:
    """`file:line`, linked to the source at the release's tag if its repository is known."""
    text = Markup("<code>{}:{}</code>").format(frame.file, frame.line)
    url = source(frame, versions)
    return Markup('<a href="{}">{}</a>').format(url, text) if url else text


def cell_text(cell: Cell) -> str:
    """A variant, with its losses."""
    sight = cell.sight
    return f"{wording.cell_name(cell)}{wording.loss(line_of(sight.verdict, sight.seen))}"


def chain_head(chain: Chain) -> str:
    """The heading of a call chain."""
    head = f"Raised on {chain.stack}" if chain.message else f"Frozen on {chain.stack}"
    return f"{head}: {shortened(chain.message)}" if chain.message else head
