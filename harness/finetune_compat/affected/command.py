"""`compat affected`: read a project, ask the ledger, print the answer."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from finetune_compat.affected import answer_json, github, sarif, terminal
from finetune_compat.affected.hits import Answer, Certainty, Hit, answer
from finetune_compat.affected.ignores import accepted, expired, read_ignores
from finetune_compat.affected.notes import Level, Note, Rule
from finetune_compat.affected.proofs import read_proofs
from finetune_compat.affected.reading import read_project
from finetune_compat.checks.harm import Harm
from finetune_compat.checks.ledger import Issue, Ledger
from finetune_compat.checks.ledger_file import shipped_ledger
from finetune_compat.checks.patterns import PATTERNS
from finetune_compat.checks.windows_measured import read_windows
from finetune_compat.contract.errors import CompatError, ExitCode
from finetune_compat.machine.guarded_output import say_to_the_runner


class Form(StrEnum):
    """The form of an answer."""

    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"
    GITHUB = "github"
    SCHEMA = "schema"


def form_of(command: str, **wanted: bool) -> Form:
    """The form that the options of `command` ask for.

    Raises:
        CompatError: they ask for more than one.
    """
    asked = [name for name, on in wanted.items() if on]
    if len(asked) > 1:
        raise CompatError(
            f"--{asked[0]} and --{asked[1]} exclude each other", where=command, todo="Ask for one form of the answer."
        )
    return Form(asked[0]) if asked else Form.TEXT


def affected(path: Path | None, form: Form) -> ExitCode:
    """Print which known issues the versions at `path` fall into; None: those of the active environment.

    Returns:
        UNHEALTHY for a bug that the project does not accept, COULD_NOT_TELL if it names no package of the ledger.

    Raises:
        CompatError: the path or a file cannot be read.
    """
    if form is Form.SCHEMA:
        print(answer_json.schema("affected"), end="")
        return ExitCode.HEALTHY
    ledger, today = shipped_ledger(), datetime.datetime.now(tz=datetime.UTC).date()
    project = read_project(path)
    found = answer(project, ledger)
    known = {issue.id for issue in ledger.issues} | PATTERNS.keys()
    ignores = read_ignores(project.path, known) if path else ()
    why = {hit.issue.id: text for hit in found.hits if (text := accepted(ignores, hit.issue.id, "", today))}
    text = _text(found, why, expired(ignores, today), ledger, form)
    if form is Form.GITHUB:
        say_to_the_runner(text)
    else:
        print(text)
    return exit_code(found, why)


def exit_code(found: Answer, why: Mapping[str, str]) -> ExitCode:
    """The exit code of an answer; `why` has the accepted issues."""
    if not found.known:
        return ExitCode.COULD_NOT_TELL
    counts = any(hit.counts and hit.issue.id not in why for hit in found.hits)
    return ExitCode.UNHEALTHY if counts else ExitCode.HEALTHY


def _text(found: Answer, why: Mapping[str, str], notes: tuple[str, ...], ledger: Ledger, form: Form) -> str:
    match form:
        case Form.JSON:
            return answer_json.as_json(found, why, read_proofs(), notes, read_windows())
        case Form.SARIF:
            return sarif.sarif(_notes(found, why), [rule_of(issue) for issue in ledger.issues])
        case Form.GITHUB:
            return github.commands(_notes(found, why))
        case _:
            return terminal.page(found, why, read_proofs(), notes, terminal.width()).rstrip("\n")


def rule_of(issue: Issue) -> Rule:
    """An issue as a rule."""
    link = issue.link if issue.link.startswith("https://") else ""
    return Rule(id=issue.id, title=issue.title, help=issue.remedy, link=link)


def _notes(found: Answer, why: Mapping[str, str]) -> list[Note]:
    return [
        Note(
            rule=rule_of(hit.issue),
            level=_level(hit),
            message=f"{asked.text}: {hit.harm}. Needs: {hit.issue.needs}. {hit.issue.remedy}",
            file=asked.file,
            line=asked.line,
            accepted=why.get(hit.issue.id, ""),
        )
        for hit in found.hits
        if hit.counts
        for asked in hit.packages
    ]


def _level(hit: Hit) -> Level:
    if hit.certainty is not Certainty.HIT:
        return Level.WARNING
    # Users see a crash. They do not see a run that ends without an error and trained nothing.
    return Level.WARNING if hit.harm is Harm.CRASHES else Level.ERROR
