"""The answer as text for a terminal. Lays out what was found; decides nothing."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence

from finetune_compat.affected.conditions import conditions
from finetune_compat.affected.hits import PACKAGES, Answer, Certainty, Hit
from finetune_compat.affected.notes import one_line
from finetune_compat.affected.proofs import Proof, proofs_of
from finetune_compat.machine.units import counted

_PIPED_WIDTH = 120
_INDENT = " " * 3
_HEAD = 10


def width() -> int:
    """Columns of standard output; 120 if it is not a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else _PIPED_WIDTH


def page(
    answer: Answer, accepted: Mapping[str, str], proofs: Sequence[Proof], notes: Sequence[str], columns: int
) -> str:
    """The whole answer; lines are at most `columns` wide, except for words that are longer."""
    return "\n".join(_lines(answer, accepted, proofs, notes, columns)) + "\n"


def wrapped(text: str, columns: int, head: str = "", indent: str = "") -> list[str]:
    """`text` in lines of `columns`: the first begins with `head`, the others with spaces in its place."""
    first = f"{indent}{head}"
    wrapper = textwrap.TextWrapper(
        columns,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return wrapper.wrap(one_line(text)) or [first.rstrip()]


def _lines(
    answer: Answer, accepted: Mapping[str, str], proofs: Sequence[Proof], notes: Sequence[str], columns: int
) -> Iterator[str]:
    project = answer.project
    named = [project.packages[name].text for name in PACKAGES if name in project.packages]
    yield from wrapped(f"{project.path}: {', '.join(named) or 'none of ' + ', '.join(PACKAGES)}", columns)
    told = [hit for hit in answer.hits if hit.counts and not accepted.get(hit.issue.id)]
    for hit in told:
        yield ""
        yield from _hit(hit, proofs, columns)
    yield from _rest(answer, accepted, columns)
    yield ""
    for note in (*notes, *(f"Not read: {text}" for text in project.unread), *_unknown(answer)):
        yield from wrapped(note, columns)
    yield from wrapped(_conclusion(answer, told), columns)


def _hit(hit: Hit, proofs: Sequence[Proof], columns: int) -> Iterator[str]:
    issue = hit.issue
    certainty = "hit" if hit.certainty is Certainty.HIT else "allowed by the range"
    yield from wrapped(f"{issue.id}  {hit.harm}  ({certainty})", columns)
    facts = [("", issue.title), *(("at", f"{asked.where}  {asked.text}") for asked in hit.packages)]
    facts += [("needs", "; ".join(conditions(hit))), ("you see", issue.sees), ("do", issue.remedy)]
    facts += [("safe", " or ".join(map(str, hit.safe)))] if hit.safe else []
    facts += [("link", issue.link)]
    shown = proofs_of(issue, hit.shows, tuple(proofs))
    facts += [("proof", shown[0].command)] if shown else []
    for name, text in facts:
        yield from wrapped(text, columns, f"{name:<{_HEAD}}" if name else "", _INDENT)


def _rest(answer: Answer, accepted: Mapping[str, str], columns: int) -> Iterator[str]:
    listed = [(hit, accepted.get(hit.issue.id, "")) for hit in answer.hits]
    known = [f"{hit.issue.id}  {hit.issue.title}: {why}" for hit, why in listed if hit.counts and why]
    if known:
        yield from ("", "Accepted:")
        for text in known:
            yield from wrapped(text, columns, indent=_INDENT)
    others = [hit for hit, _ in listed if not hit.counts]
    if others:
        yield ""
        yield from wrapped("No bug of these releases, and possible with them (compat audit reads your code):", columns)
        for hit in others:
            yield from wrapped(f"{hit.issue.id}  {hit.harm}: {hit.issue.needs}", columns, indent=_INDENT)


def _unknown(answer: Answer) -> Iterator[str]:
    if answer.newer:
        names = ", ".join(asked.text for asked in answer.newer)
        yield f"Newer than every measured release, so nothing is known about it: {names}."
    missing = [name for name in PACKAGES if name not in answer.project.packages]
    if answer.known and missing and not answer.project.complete:
        yield f"Not named, so what depends on them alone is not told: {', '.join(missing)}. A lock file tells."


def _conclusion(answer: Answer, told: Sequence[Hit]) -> str:
    if not answer.known:
        return "Could not tell: no package of the ledger is named."
    if not told:
        return "No known issue of these versions."
    hits = sum(hit.certainty is Certainty.HIT for hit in told)
    ranges = f", and {len(told) - hits} that a range allows" if len(told) > hits else ""
    return f"{counted(hits, 'known issue')} of these versions{ranges}. Does your code meet the conditions? compat audit"
