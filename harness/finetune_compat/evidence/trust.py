"""What was tried against the harness itself, and what held: `nox -s trust`. Host side.

tests/fault_matrix.toml            fault, what must hold, and the test that shows it
reports/trust/
    tests.json, fuzz.json          results of these tests, and of tests/unit/test_fuzz.py
    false-alarms.json              decisions between equal sides (evidence.false_alarms)
    trust.md                       derived from all of them, and from the planted faults of reports/faults/
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from finetune_compat.evidence import faults, independent_faults
from finetune_compat.machine.files import read_object, write_atomically
from finetune_compat.machine.places import places
from finetune_compat.report.markdown import plain, table

MATRIX = Path("tests") / "fault_matrix.toml"

UNCOVERED = "no test"


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of the fault matrix."""

    fault: str
    expected: str
    test: str
    """The test's id; empty if no test covers the fault."""


def read_matrix(checkout: Path) -> tuple[Fault, ...]:
    """The fault matrix of this checkout."""
    rows = tomllib.loads((checkout / MATRIX).read_text(encoding="utf-8"))["fault"]
    return tuple(Fault(**row) for row in rows)


def outcomes(junit: Path) -> dict[str, str]:
    """The worst outcome of each test in pytest's JUnit file, by the name of its function."""
    found: dict[str, str] = {}
    for case in ET.parse(junit).iter("testcase"):  # noqa: S314 - pytest wrote it just now
        name = str(case.get("name")).partition("[")[0]
        kinds = {child.tag for child in case} & {"failure", "error", "skipped"}
        outcome = "failed" if kinds & {"failure", "error"} else "skipped" if kinds else "passed"
        worst = ("passed", "skipped", "failed")
        found[name] = max(outcome, found.get(name, "passed"), key=worst.index)
    return found


def page(matrix: Sequence[Fault], tests: Mapping[str, str], fuzz: Mapping[str, Any], alarms: Mapping[str, Any]) -> str:
    """`trust.md`."""
    rows = [[plain(row.fault), plain(row.expected), _outcome(row, tests)] for row in matrix]
    parts = [
        "# Can it be fooled, broken or made to leak?",
        "`nox -s trust` writes this page.",
        _summary(matrix, tests, fuzz, alarms),
        "## Faults",
        table(["fault", "what must hold", "test"], rows),
        "## False alarms",
        _runs(alarms),
    ]
    return "\n\n".join(parts) + "\n"


def _summary(
    matrix: Sequence[Fault], tests: Mapping[str, str], fuzz: Mapping[str, Any], alarms: Mapping[str, Any]
) -> str:
    covered = [row for row in matrix if row.test]
    held = sum(_outcome(row, tests) == "passed" for row in covered)
    number, decisions = len(matrix) - len(covered), Counter[str](alarms["decisions"])
    false, all_of_them = decisions.total() - decisions["ALLOW"], decisions.total()
    wrong, hours = fuzz["failed"], fuzz["seconds"] / 3600
    wrong_tests = f"{wrong} tests found one that ended in neither an answer nor one error."
    lines = [
        f"Faults of the machine and of people: {held} of {len(covered)} with a test held; {number} without a test.",
        f"False alarms: {false} of {all_of_them:,} decisions between equal sides were not ALLOW.",
        f"Planted faults: {_score()}.",
        f"Fuzzing: {fuzz['examples']:,} contents of {fuzz['readers']} kinds of files, {hours:.2f} hours. {wrong_tests}",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _runs(alarms: Mapping[str, Any]) -> str:
    answers = ", ".join(f"{name} {number:,}" for name, number in sorted(alarms["decisions"].items()))
    spread = ", ".join(alarms["spread"]) or "nothing"
    equal = "equal bit for bit" if alarms["identical"] else "not equal bit for bit"
    sentences = [
        f"{alarms['runs']:,} runs of {len(alarms['cells'])} cells on {alarms['stack']}, with several seeds, in",
        "shuffled order, in one process and in two at once. A gate decided between every two runs of a seed, each as",
        f"either side: {answers}. More than rounding differed in {spread}; the measured facts were {equal}.",
    ]
    return "\n".join(sentences)


def _outcome(row: Fault, tests: Mapping[str, str]) -> str:
    return tests.get(row.test.rpartition("::")[2], "not run") if row.test else UNCOVERED


def _score() -> str:
    records, others = faults.read_records(), independent_faults.read_records()
    return "; ".join(" and ".join(row[1:3]) + f" ({row[0]})" for row in faults.scores(records, others))


def fuzzed(junit: Path, examples: int) -> dict[str, Any]:
    """The result of the fuzzing in pytest's JUnit file."""
    cases = [case for case in ET.parse(junit).iter("testcase") if "answer_or_one_error" in str(case.get("name"))]  # noqa: S314 - as above
    failed = sum(any(child.tag in ("failure", "error") for child in case) for case in cases)
    seconds = sum(float(case.get("time") or 0) for case in cases)
    kinds = {re.sub(r".*\[|\]", "", str(case.get("name"))) for case in cases}
    return {"examples": examples * len(cases), "readers": len(kinds), "failed": failed, "seconds": round(seconds)}


def main(arguments: Sequence[str]) -> int:
    """Write the page; 1 if a test failed, a content was not refused properly, or an alarm was false."""
    parser = argparse.ArgumentParser(prog="trust")
    parser.add_argument("--tests", type=Path, help="pytest's JUnit file of the tests of the fault matrix")
    parser.add_argument("--fuzz", type=Path, help="pytest's JUnit file of tests/unit/test_fuzz.py")
    parser.add_argument("--examples", type=int, help="number of examples of each of its tests")
    asked = parser.parse_args(arguments)
    folder = places().reports / "trust"
    if asked.tests:
        write_atomically(folder / "tests.json", json.dumps(outcomes(asked.tests), indent=1, sort_keys=True) + "\n")
    if asked.fuzz:
        write_atomically(folder / "fuzz.json", json.dumps(fuzzed(asked.fuzz, asked.examples), indent=1) + "\n")
    tests, fuzz, alarms = (read_object(folder / name) for name in ("tests.json", "fuzz.json", "false-alarms.json"))
    matrix = read_matrix(places().the_checkout("the fault matrix"))
    write_atomically(folder / "trust.md", page(matrix, tests, fuzz, alarms))
    print(folder / "trust.md")
    held = all(_outcome(row, tests) == "passed" for row in matrix if row.test)
    return int(not held or fuzz["failed"] > 0 or set(alarms["decisions"]) != {"ALLOW"})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
