"""The answer of `compat bisect` as text: for the terminal, and for an upstream issue."""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from packaging.version import Version

from finetune_compat.bisect.answer import BisectAnswer, Edge, ReleaseResult
from finetune_compat.bisect.lines import Changed
from finetune_compat.checks.codes import CODES
from finetune_compat.history.condition import VERDICT
from finetune_compat.machine.units import counted

DIFF_LINES = 24
"""Maximum number of lines of a diff that the terminal shows."""

FUNCTIONS = 3
"""Maximum number of changed functions that the terminal shows for an edge."""

_WIDTH = 100


def terminal(answer: BisectAnswer) -> str:
    """The answer for a terminal."""
    return "\n".join(_terminal(answer))


def _terminal(answer: BisectAnswer) -> Iterator[str]:
    yield f"{answer.subject} over {answer.releases} releases of {answer.package}; condition: {answer.condition}"
    yield ""
    for first, last, bad, shown in answer.stretches:
        span = first if first == last else f"{first} to {last}"
        yield f"  {span:<20} {'bad ' if bad else 'good'}  {shown}"
    yield ""
    if not answer.edges:
        yield "No change between the releases that gave a result."
    for edge in answer.edges:
        yield from _edge(answer, edge)
    yield from _rest(answer)


def headline(edge: Edge) -> str:
    """The two releases of an edge in the words of the question: last good and first bad, or last bad and first good."""
    match edge.before.bad, edge.after.bad:
        case False, True:
            return f"last good {edge.before.version}, first bad {edge.after.version}"
        case True, False:
            return f"last bad {edge.before.version}, first good again {edge.after.version}"
        case _:
            kind = "bad" if edge.before.bad else "good"
            return f"{kind} in another way: {edge.before.version} -> {edge.after.version}"


def _edge(answer: BisectAnswer, edge: Edge) -> Iterator[str]:
    yield f"{headline(edge)}  ({edge.runs} runs beyond the sample, at most {answer.bound})"
    yield f"  {edge.before.version}: {edge.before.shown}"
    yield f"  {edge.after.version}: {edge.after.shown}"
    if edge.moved:
        yield f"  also moved: {', '.join(edge.moved)}"
    if edge.skipped:
        yield f"  skipped between them: {', '.join(edge.skipped)}"
    if edge.unseen:
        yield f"  not run between them, the bound was used up: {', '.join(edge.unseen)}"
    for changed in edge.lines[:FUNCTIONS]:
        yield from _changed(changed)
    if len(edge.lines) > FUNCTIONS:
        yield f"  {len(edge.lines) - FUNCTIONS} more on the chain differ (--json lists them)"
    yield ""


def _changed(changed: Changed) -> Iterator[str]:
    yield f"  differs: {changed.place}"
    yield from (f"    {link}" for link in (changed.good_link, changed.bad_link) if link)
    yield from (f"    {line}" for line in changed.diff[:DIFF_LINES])
    if len(changed.diff) > DIFF_LINES:
        yield f"    ... {len(changed.diff) - DIFF_LINES} more lines"


def _rest(answer: BisectAnswer) -> Iterator[str]:
    skipped = [result for result in answer.results if result.bad is None]
    for result in skipped:
        yield _wrapped(f"skipped {result.version}: {_one_line(result.shown)}")
    if answer.not_looked_at:
        yield _wrapped(f"Not looked at ({len(answer.not_looked_at)}): {', '.join(_spans(answer))}")
    if answer.older:
        yield f"Older releases were left out: {answer.older} (--releases selects others)."
    yield (
        f"{answer.runs} runs, {answer.sample_runs} of them the sample; {answer.stored} results were stored; "
        f"{answer.seconds:.0f} s. Observations: {answer.run}"
    )


def _spans(answer: BisectAnswer) -> Iterator[str]:
    """The releases that were not looked at; neighbours as one span."""
    unseen = {*answer.not_looked_at}
    there = sorted((*unseen, *(result.version for result in answer.results)), key=Version)
    for missing, group in itertools.groupby(there, key=unseen.__contains__):
        versions = list(group)
        if missing:
            yield versions[0] if len(versions) == 1 else f"{versions[0]} to {versions[-1]} ({len(versions)})"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False)


def _one_line(text: str) -> str:
    return textwrap.shorten(text, 200, placeholder=" ...")


# ------------------------------------------------------------------------------------------------------ upstream issue


MOST_CHARACTERS = 10_000
"""Length of a module that is part of the text. GitHub accepts 65,536 characters in all."""


def issue_text(answer: BisectAnswer, script: str = "", modules: Mapping[str, str] = MappingProxyType({})) -> str:
    """The text to paste into an issue of the package: the window, versions, the script, the line.

    Args:
        answer: what was found.
        script: the text of the script to reproduce it; empty if there is none.
        modules: the texts of the local modules that the script imports, by file name.
    """
    return "\n".join(_issue(answer, script, modules)).rstrip() + "\n"


def _issue(answer: BisectAnswer, script: str, modules: Mapping[str, str]) -> Iterator[str]:
    edge = answer.first_bad
    if edge is None:
        yield f"No release of {answer.package} turns {answer.subject} from good to bad."
        return
    fixed = next(
        (one for one in answer.edges if one.before.bad and not one.after.bad and _later(answer, edge, one)), None
    )
    until = f"until {fixed.before.version}, good again in {fixed.after.version}" if fixed else "not fixed since"
    of_fields = answer.condition != VERDICT and answer.condition not in CODES
    earlier = f" ({edge.before.version}: {_one_line(edge.before.shown)})" if of_fields else ""
    yield f"### {answer.package} {edge.after.version}: {_one_line(edge.after.shown)}{earlier}"
    yield ""
    yield f"Since {edge.after.version} (last good release: {edge.before.version}), {until}."
    yield ""
    yield from _versions(answer, (edge.before, edge.after, *((fixed.after,) if fixed else ())))
    if script:
        yield from ("**To reproduce**", "", *_python(script))
    for name, text in modules.items():
        if len(text) > MOST_CHARACTERS:
            yield from (f"It imports `{name}` ({counted(text.count(chr(10)), 'line')}), which must be added.", "")
        else:
            yield from (f"It imports `{name}`:", "", *_python(text))
    yield "**Observed**"
    yield ""
    for result in (edge.before, edge.after):
        yield f"- {answer.package} {result.version}: {_one_line(result.shown)}"
    yield from (f"- {code} checks: {CODES[code].title}" for code in CODES if code in edge.after.shown)
    yield ""
    for changed in edge.lines[:1]:
        yield f"**Changed between them, on the call chain:** `{changed.place}`"
        yield ""
        yield f"[{edge.before.version}]({changed.good_link}), [{edge.after.version}]({changed.bad_link})"
        yield from ("", "```diff", *changed.diff[:DIFF_LINES], "```", "")
    yield f"Found with `{answer.command}`."


def _python(text: str) -> tuple[str, ...]:
    """A block of code, whatever fences are in it."""
    fence = "`" * (1 + max(2, *map(len, re.findall("`+", text)), 0))
    return (f"{fence}python", text.rstrip(), fence, "")


def _later(answer: BisectAnswer, edge: Edge, other: Edge) -> bool:
    return answer.edges.index(other) > answer.edges.index(edge)


def _versions(answer: BisectAnswer, results: Sequence[ReleaseResult]) -> Iterator[str]:
    chosen = [answer.versions.get(result.version, {}) for result in results]
    yield "| | " + " | ".join("bad" if result.bad else "good" for result in results) + " |"
    yield "| --- |" + " --- |" * len(results)
    for name in dict.fromkeys(name for versions in chosen for name in versions):
        yield f"| {name} | " + " | ".join(versions.get(name, "-") for versions in chosen) + " |"
    yield ""
