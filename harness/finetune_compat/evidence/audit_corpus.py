"""How right `compat audit` and `compat affected` are: scripts and lock files with a known answer.

    python -m finetune_compat.evidence.audit_corpus            exit code 1 if reports/affected/ differs
    python -m finetune_compat.evidence.audit_corpus --write    write it

Examples of the libraries themselves are in their source distributions (`pip download --no-binary :all: --no-deps
trl==0.22.2`, unpacked); `--examples trl0.22=DIRECTORY` adds them, and may be repeated.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_compat.affected.hits import answer
from finetune_compat.affected.reading import read_project
from finetune_compat.audit.examine import examine
from finetune_compat.audit.findings import Finding, Releases, Status
from finetune_compat.audit.signatures import read_signatures
from finetune_compat.checks.ledger import Ledger
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.contract.catalog import cells_on
from finetune_compat.contract.errors import ExitCode
from finetune_compat.contract.records import DeviceKind
from finetune_compat.machine.files import write_atomically
from finetune_compat.machine.places import places
from finetune_compat.results.order import stack_order
from finetune_compat.stacks.locks import Unsolvable, locked
from finetune_compat.stacks.matrix import LockPlan, Matrix, read_matrix

REMOVED = ("removed-argument", "removed-name")
"""Patterns that the signatures prove: a call of an example that does not exist in that release is no false hit."""


@dataclass(frozen=True)
class Case:
    """One script of the corpus."""

    path: Path
    shown: str
    stack: str
    patterns: tuple[str, ...]
    """Any of them is right; none for a good script."""


@dataclass(frozen=True)
class Told:
    """What audit says about a case."""

    case: Case
    hits: tuple[str, ...]
    """Patterns that hit."""
    unsure: tuple[str, ...]
    """Patterns of which only a run decides."""

    @property
    def found(self) -> bool:
        """Whether a right pattern hits."""
        return bool(set(self.hits) & set(self.case.patterns))


def main(arguments: Sequence[str]) -> ExitCode:
    """Audit the corpus, and compare the page with reports/affected/, or write it."""
    parser = argparse.ArgumentParser(prog="python -m finetune_compat.evidence.audit_corpus")
    parser.add_argument("--write", action="store_true", help="write reports/affected/")
    parser.add_argument(
        "--examples", action="append", default=[], metavar="STACK=DIRECTORY", help="further good scripts"
    )
    options = parser.parse_args(arguments)
    page = places().reports / "affected" / "corpus.md"
    text = report(options.examples)
    if options.write:
        page.parent.mkdir(exist_ok=True)
        write_atomically(page, text)
        return ExitCode.HEALTHY
    print(text)
    return ExitCode.HEALTHY if page.exists() and page.read_text(encoding="utf-8") == text else ExitCode.UNHEALTHY


def report(examples: Sequence[str] = ()) -> str:
    """The page."""
    root = places().the_checkout("tests/audit") / "tests"
    os.environ["PYTHONPATH"] = str(root / "exam")
    ledger, matrix = load_ledger(), read_matrix()
    bad, good, others = cases(root)
    told = {
        name: [tell(case, matrix, ledger) for case in group]
        for name, group in (("bad", bad), ("good", good), ("others", others))
    }
    own = [tell(case, matrix, ledger) for example in examples for case in _examples(example)]
    return _page(told["bad"], told["good"], told["others"], own, list(lock_files(matrix, ledger)))


# ------------------------------------------------------------------------------------------------------------ the cases


def cases(root: Path) -> tuple[list[Case], list[Case], list[Case]]:
    """The bad scripts, the good ones, and the faulty scripts of the exam whose faults audit does not look for."""
    corpus = tomllib.loads((root / "audit" / "corpus.toml").read_text(encoding="utf-8"))
    own = {name: [_own(root, entry) for entry in corpus[name]] for name in ("bad", "good")}
    faulty = _exam(root, "faulty")
    wanted = {entry["path"]: _wanted(entry, corpus["exam"]) for entry in faulty}
    made = [Case(root / "exam" / one["path"], one["path"], one["stack"], wanted[one["path"]]) for one in faulty]
    healthy = [Case(root / "exam" / one["path"], one["path"], one["stack"], ()) for one in _exam(root, "healthy")]
    return (
        own["bad"] + [case for case in made if case.patterns],
        own["good"] + [case for case in healthy if case.path.suffix in (".py", ".ipynb")],
        [case for case in made if not case.patterns],
    )


def _own(root: Path, entry: Mapping[str, Any]) -> Case:
    return Case(
        root / "audit" / entry["path"], f"audit/{entry['path']}", entry["stack"], tuple(entry.get("patterns", ()))
    )


def _exam(root: Path, name: str) -> list[dict[str, Any]]:
    scripts = tomllib.loads((root / "exam" / f"{name}.toml").read_text(encoding="utf-8"))["script"]
    return [one for one in scripts if name == "healthy" or one["right"] == "unhealthy"]


def _wanted(entry: Mapping[str, Any], exam: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(exam["scripts"].get(entry["path"], exam["kinds"].get(entry["kind"], ())))


def _examples(text: str) -> Iterator[Case]:
    stack, _, directory = text.partition("=")
    root = Path(directory)
    for path in sorted(root.rglob("*.py")) + sorted(root.rglob("*.ipynb")):
        yield Case(path, f"{stack}: {path.relative_to(root)}", stack, ())


def tell(case: Case, matrix: Matrix, ledger: Ledger) -> Told:
    """Audit one script with the versions of its stack."""
    found = examine(case.path, _releases(case.stack, matrix, ledger), read_signatures()).findings
    return Told(case, _named(found, Status.HIT), _named(found, Status.RUN))


def _named(found: Sequence[Finding], status: Status) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.pattern for one in found if one.status is status))


def _releases(stack: str, matrix: Matrix, ledger: Ledger) -> Releases:
    plan = next(plan for plan in matrix.plans(matrix.stack(stack)) if plan.name == f"{stack}-py311")
    lock = locked(plan)
    versions = {} if isinstance(lock, Unsolvable) else dict(lock.requirements)
    return Releases(versions, complete=True, installed=frozenset(versions), ledger=ledger)


# ----------------------------------------------------------------------------------------------------------- lock files


def lock_files(matrix: Matrix, ledger: Ledger) -> Iterator[tuple[str, set[str], set[str]]]:
    """For each lock of the matrix: its name, the issues that cells of it are listed for, and those that are told."""
    with tempfile.TemporaryDirectory() as folder:
        for stack in matrix.stacks:
            for plan in matrix.plans(stack):
                lock = locked(plan)
                if not isinstance(lock, Unsolvable):
                    versions = dict(lock.requirements)
                    yield plan.name, _listed(versions, ledger), _told(plan, versions, ledger, Path(folder))


def _listed(versions: Mapping[str, str], ledger: Ledger) -> set[str]:
    return {
        deviation.issue
        for device in DeviceKind
        for flow, variant in cells_on(device)
        for deviation in ledger.listed(flow.name, variant, device, versions)
    }


def _told(plan: LockPlan, versions: Mapping[str, str], ledger: Ledger, folder: Path) -> set[str]:
    file = folder / f"{plan.name}-requirements.txt"
    file.write_text("".join(f"{name}=={version}\n" for name, version in versions.items()), encoding="utf-8")
    return {hit.issue.id for hit in answer(read_project(file), ledger).hits}


# ----------------------------------------------------------------------------------------------------------------- page


def _page(
    bad: Sequence[Told],
    good: Sequence[Told],
    others: Sequence[Told],
    own: Sequence[Told],
    locks: Sequence[tuple[str, set[str], set[str]]],
) -> str:
    found = sum(one.found for one in bad)
    false = [one for one in good if one.hits]
    wrong = [one for one in bad if one.hits and not one.found]
    hits = found + len(false) + len(wrong)
    unsure = sum(bool(one.unsure) and not one.hits for one in good)
    right_locks = sum(listed == told for _, listed, told in locks)
    proven = [one for one in own if one.hits and set(one.hits) <= set(REMOVED)]
    false_own = [one for one in own if set(one.hits) - set(REMOVED)]
    lines = [
        "# How right the audit is",
        "",
        "Written by `python -m finetune_compat.evidence.audit_corpus --write`. The scripts are in `tests/audit` and",
        "`tests/exam`; `tests/audit/corpus.toml` has their right answers.",
        "",
        "| | |",
        "|---|---|",
        f"| bad scripts of which a right pattern hits (recall) | {_share(found, len(bad))} |",
        f"| scripts that are told as a hit, and are bad for that reason (precision) | {_share(found, hits)} |",
        f"| good scripts that are told as a hit | {len(false)} of {len(good)} |",
        f"| good scripts of which audit says that only a run decides | {unsure} of {len(good)} |",
        f"| examples of TRL and PEFT that are falsely told as a hit | {len(false_own)} of {len(own)} |",
        f"| examples that are rightly told: they call what their release no longer has | {len(proven)} of {len(own)} |",
        f"| lock files whose issues are told exactly as their cells are listed | {right_locks} of {len(locks)} |",
        "",
        "## Bad scripts",
        "",
        "| script | stack | right | told as a hit | only a run decides |",
        "|---|---|---|---|---|",
        *(_row(one) for one in sorted(bad, key=_order)),
    ]
    for title, group in (
        ("Good scripts that are told as a hit", false),
        ("Examples that are told as a hit", [*proven, *false_own]),
        ("Faults that audit does not look for, and what it tells of them", [one for one in others if one.hits]),
    ):
        lines += ["", f"## {title}", ""]
        lines += (
            ["| script | stack | right | told as a hit | only a run decides |", "|---|---|---|---|---|"]
            if group
            else ["None."]
        )
        lines += [_row(one) for one in sorted(group, key=_order)]
    lines += [
        "",
        f"Audit does not look for the faults of {len(others)} further scripts of the exam; `compat watch` does.",
        "",
    ]
    return "\n".join(lines)


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({part / whole:.0%})"


def _order(one: Told) -> tuple[bool, str, object]:
    return one.found, one.case.shown, stack_order(one.case.stack)


def _row(one: Told) -> str:
    cells = (one.case.shown, one.case.stack, ", ".join(one.case.patterns), ", ".join(one.hits), ", ".join(one.unsure))
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
