"""`compat audit`: read the code of a project, join it with versions, print the answer."""

from __future__ import annotations

import datetime
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_compat.affected import github, sarif, terminal
from finetune_compat.affected.answer_json import SCHEMA, schema
from finetune_compat.affected.command import Form
from finetune_compat.affected.ignores import PYPROJECT, Ignore, accepted, expired, read_ignores
from finetune_compat.affected.notes import Level, Note, Rule
from finetune_compat.audit.examine import Examined, examine
from finetune_compat.audit.findings import Finding, Releases, Status
from finetune_compat.audit.fixes import diff
from finetune_compat.audit.releases import moved_to, of_project
from finetune_compat.audit.signatures import read_signatures
from finetune_compat.checks.harm import Harm
from finetune_compat.checks.ledger_file import shipped_ledger
from finetune_compat.checks.patterns import PATTERNS, Pattern
from finetune_compat.contract.errors import ExitCode
from finetune_compat.contract.version import __version__
from finetune_compat.machine.guarded_output import say_to_the_runner
from finetune_compat.machine.places import places

_INDENT = " " * 3


@dataclass(frozen=True)
class Audit:
    """What an audit found."""

    examined: Examined
    releases: Releases
    origin: str
    """Where the versions come from; empty if they are not known."""
    wanted: str
    """The release to move to; empty for the project's own versions."""
    why: Mapping[tuple[str, str], str]
    """Why a pattern in a file is accepted, by both."""
    notes: Sequence[str]

    def open(self, finding: Finding) -> bool:
        """Whether the project does not accept it."""
        return (finding.pattern, finding.place.source.shown) not in self.why

    @property
    def exit_code(self) -> ExitCode:
        """UNHEALTHY for a hit, COULD_NOT_TELL if only a run decides or a file could not be read."""
        states = {one.status for one in self.examined.findings if self.open(one)}
        if Status.HIT in states:
            return ExitCode.UNHEALTHY
        return ExitCode.COULD_NOT_TELL if Status.RUN in states or self.examined.unread else ExitCode.HEALTHY


def audit_command(path: Path, form: Form, *, lock: Path | None, wanted: str, fix: bool) -> ExitCode:
    """Print what is wrong in the code at `path`, or the fixes as a diff.

    Raises:
        CompatError: there is no code at `path`, or a file cannot be read.
    """
    if form is Form.SCHEMA:
        print(schema("audit"), end="")
        return ExitCode.HEALTHY
    found = audit(path, lock=lock, wanted=wanted)
    if fix:
        print("".join(diff(source, _hits(found)) for source in found.examined.sources), end="")
    elif form is Form.GITHUB:
        say_to_the_runner(_text(found, form))
    else:
        print(_text(found, form))
    return found.exit_code


def audit(path: Path, *, lock: Path | None = None, wanted: str = "") -> Audit:
    """Audit the code at `path`; see `audit_command`."""
    ledger, signatures = shipped_ledger(), read_signatures()
    today = datetime.datetime.now(tz=datetime.UTC).date()
    releases, origin = of_project(path, lock, ledger)
    if wanted:
        releases = moved_to(wanted, releases, signatures, places().locks)
        origin = wanted
    ignores = read_ignores(path, PATTERNS.keys() | {issue.id for issue in ledger.issues})
    examined = examine(path, releases, signatures, _attention_rule(path))
    return Audit(examined, releases, origin, wanted, _accepted(examined, ignores, today), expired(ignores, today))


def _accepted(examined: Examined, ignores: Sequence[Ignore], today: datetime.date) -> dict[tuple[str, str], str]:
    """An entry for an issue accepts the patterns of the issue too."""
    found = {}
    for one in examined.findings:
        file = one.place.source.shown
        why = accepted(ignores, one.pattern, file, today) or accepted(ignores, one.of.issue, file, today)
        if why:
            found[one.pattern, file] = why
    return found


def _attention_rule(path: Path) -> str:
    """`training-attention` of `[tool.finetune-compat]`; empty if there is none."""
    file = (path if path.is_dir() else path.parent) / PYPROJECT
    if not file.is_file():
        return ""
    table = tomllib.loads(file.read_text(encoding="utf-8-sig")).get("tool", {}).get("finetune-compat", {})
    return str(table.get("training-attention", ""))


def _hits(found: Audit) -> list[Finding]:
    return [one for one in found.examined.findings if one.status is Status.HIT and found.open(one)]


def _text(found: Audit, form: Form) -> str:
    match form:
        case Form.JSON:
            return json.dumps(_as_json(found), indent=2, allow_nan=False)
        case Form.SARIF:
            return sarif.sarif(_notes(found), [_rule(pattern) for pattern in PATTERNS.values()])
        case Form.GITHUB:
            return github.commands(_notes(found))
    return "\n".join(_page(found, terminal.width()))


# ---------------------------------------------------------------------------------------------------------------- forms


def _rule(pattern: Pattern) -> Rule:
    return Rule(id=pattern.id, title=pattern.title, help=pattern.remedy)


_LEVELS = {Status.HIT: Level.ERROR, Status.RUN: Level.WARNING}


def _notes(found: Audit) -> list[Note]:
    return [
        Note(
            rule=_rule(one.of),
            level=Level.WARNING if one.status is Status.HIT and one.of.harm is Harm.CRASHES else _LEVELS[one.status],
            message=f"{_sentence(one)} {one.of.remedy}",
            file=one.place.source.shown,
            line=one.place.line,
            accepted=found.why.get((one.pattern, one.place.source.shown), ""),
        )
        for one in found.examined.findings
        if one.status is not Status.NOT_HIT
    ]


def _sentence(one: Finding) -> str:
    when = f", when {one.when}" if one.when else ""
    return f"{one.why[:1].upper()}{one.why[1:]}{when}."


def _as_json(found: Audit) -> dict[str, Any]:
    states = {one.status for one in found.examined.findings if found.open(one)}
    return {
        "schema": f"audit-{SCHEMA}",
        "version": __version__,
        "versions": dict(found.releases.versions),
        "versions_from": found.origin or None,
        "for": found.wanted or None,
        "hit": Status.HIT in states,
        "run_to_know": Status.RUN in states,
        "files": [{"file": file, "status": status, "note": note} for file, status, note in table(found)],
        "notes": list(found.notes),
        "findings": [
            {
                "pattern": one.pattern,
                "title": one.of.title,
                "issue": one.of.issue or None,
                "status": str(one.status),
                "severity": str(one.of.harm),
                "file": one.place.source.shown,
                "line": one.place.line,
                "where": str(one.place),
                "why": _sentence(one),
                "when": one.when or None,
                "parts": [{"file": part.source.shown, "line": part.line} for part in one.parts],
                "remedy": one.of.remedy,
                "accepted": found.why.get((one.pattern, one.place.source.shown)),
                "command": command(one) if one.status is Status.RUN else None,
            }
            for one in found.examined.findings
        ],
    }


def command(one: Finding) -> str:
    """The command that tells whether a finding is true: it runs the script for a few steps."""
    files = [part.source for part in (*one.parts, one.place)]
    script = next((source.shown for source in files if "__main__" in source.text), files[-1].shown)
    return f"compat watch {script}"


def table(found: Audit) -> Iterator[tuple[str, str, str]]:
    """File, status and note, for every file."""
    for source in found.examined.sources:
        mine = [one for one in found.examined.of(source.shown) if found.open(one)]
        own = {one.pattern: one for one in mine}
        if mine:
            status = min(mine, key=_seriousness).status
            told = [_remark(one, source.shown) for one in sorted(own.values(), key=_seriousness)]
            yield source.shown, str(status), "; ".join(dict.fromkeys(told))
        elif found.examined.of(source.shown):
            yield source.shown, "accepted", found.why[_key(found.examined.of(source.shown)[0])]
        else:
            note = "trains, no pattern" if source.shown in found.examined.trains else "trains nothing"
            yield source.shown, "ok", note
    for unread in found.examined.unread:
        yield unread.shown, "not read", f"line {unread.line}: {unread.problem}"


def _key(one: Finding) -> tuple[str, str]:
    return one.pattern, one.place.source.shown


def _remark(one: Finding, file: str) -> str:
    if one.place.source.shown == file:
        return f"{one.pattern}: {one.why}" + (f" (when {one.when})" if one.when else "")
    lines = sorted({part.line for part in one.parts if part.source.shown == file})
    places = f"line {lines[0]}" if len(lines) == 1 else f"lines {', '.join(map(str, lines))}"
    return f"{places}: part of {one.pattern} at {one.place}" + (" (not hit)" if one.status is Status.NOT_HIT else "")


def _seriousness(one: Finding) -> int:
    return tuple(Status).index(one.status)


def _page(found: Audit, columns: int) -> Iterator[str]:
    names = found.releases.text("trl", "transformers", "peft")
    origin = f" ({found.origin})" if found.origin else ""
    yield from terminal.wrapped(
        f"Versions: {names}{origin}" if names else "Versions: not known; name a lock with --lock", columns
    )
    for one in found.examined.findings:
        if one.status is not Status.NOT_HIT and found.open(one):
            yield ""
            yield from _finding(one, columns)
    yield ""
    rows = list(table(found))
    wide = max(len(file) for file, *_ in rows)
    for file, status, note in rows:
        head = f"{file:<{wide}}  {status:<14}  "
        yield from terminal.wrapped(note, max(columns, len(head) + 40), head)
    for note in found.notes:
        yield from terminal.wrapped(note, columns)


def _finding(one: Finding, columns: int) -> Iterator[str]:
    yield from terminal.wrapped(f"{one.place}  {one.status}  {one.pattern}  ({one.of.harm})", columns)
    facts = [("", _sentence(one))]
    others = [str(part) for part in one.parts if str(part) != str(one.place)]
    facts += [("with", ", ".join(others))] if others else []
    facts += [("do", one.of.remedy)]
    facts += [("issue", one.of.issue)] if one.of.issue else []
    facts += [("know", command(one))] if one.status is Status.RUN else []
    for name, text in facts:
        yield from terminal.wrapped(text, columns, f"{name:<8}" if name else "", _INDENT)
    if one.fix and one.status is Status.HIT:
        for line in diff(one.place.source, [one]).splitlines()[2:]:
            yield f"{_INDENT}  {line}"
