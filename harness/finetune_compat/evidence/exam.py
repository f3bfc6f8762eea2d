"""The exam of `compat watch`: scripts with a known answer, written without reading the checks. Host side.

tests/exam/faulty.toml  healthy.toml    every script, the stacks it runs on, and the right answer
reports/exam/
    <stack>.json    one run of `nox -s exam`: the answer to every script
    exam.md         derived from all of them: faults found, causes named, false alarms
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import dataclasses
import functools
import json
import os
import re
import signal
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from finetune_compat.checks.codes import CODES
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.checks.rates import Rate
from finetune_compat.contract.errors import CompatError, ExitCode, Interrupted, RecordsError
from finetune_compat.contract.verdict import Result, Verdict
from finetune_compat.machine.files import write_atomically
from finetune_compat.machine.places import places
from finetune_compat.machine.provenance import commit
from finetune_compat.machine.record_files import read_record
from finetune_compat.results.order import stack_order
from finetune_compat.stacks.ask import stack_python
from finetune_compat.stacks.matrix import read_matrix
from finetune_compat.watch.host import environ_of, exit_code, of_stack, run_pipeline
from finetune_compat.watch.page import verdicts_on
from finetune_compat.watch.warm import Warm

TABLES = ("faulty.toml", "healthy.toml")

HEALTHY, UNHEALTHY, UNKNOWN, BROKEN = "healthy", "unhealthy", "could not tell", "no answer"

_ANSWERS: Mapping[int, str] = {
    ExitCode.HEALTHY: HEALTHY,
    ExitCode.UNHEALTHY: UNHEALTHY,
    ExitCode.COULD_NOT_TELL: UNKNOWN,
}

LIMIT_S = 600.0
"""Seconds of one script. They run in under 10 s on an idle core."""


@dataclass(frozen=True, slots=True)
class Script:
    """One script of the exam."""

    path: str
    """Relative to tests/exam."""
    stack: str
    """The stack that the script is about."""
    right: str
    """The right answer."""
    kind: str
    why: str
    """What is true of the script, in one sentence."""
    truth: str
    """How that was established."""
    stacks: tuple[str, ...] = ()
    """Further stacks on which the same is true."""
    arguments: tuple[str, ...] = ()
    launcher: str = ""
    """Command that starts the script (example: `torchrun --nproc-per-node 2`)."""
    also: tuple[str, ...] = ()
    """Other answers that are not wrong."""
    cause: str = ""
    """Regular expression of the words that an explanation of the fault must contain."""
    missed: str = ""
    """Why `compat watch` does not answer it right."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one script on one stack."""

    path: str
    kind: str
    right: str
    also: tuple[str, ...]
    answer: str
    codes: tuple[str, ...]
    """Failing checks."""
    cause_named: bool
    said: str
    """Reasons of the verdicts."""
    seconds: float

    @property
    def faulty(self) -> bool:
        """Whether the script has a fault."""
        return self.right != HEALTHY

    @property
    def found(self) -> bool:
        """Whether the answer is not wrong."""
        return self.answer == self.right or self.answer in self.also

    @property
    def false_alarm(self) -> bool:
        """Whether a healthy script was called unhealthy."""
        return not self.faulty and self.answer == UNHEALTHY


@dataclass(frozen=True, slots=True)
class Record:
    """One run of the exam on one stack."""

    stack: str
    commit: str
    """Commit of the harness, with `+` if files differed from it."""
    measured: str
    answers: tuple[Answer, ...]

    @property
    def missed(self) -> Rate:
        """Faulty scripts with another answer than the right one."""
        faulty = [answer for answer in self.answers if answer.faulty]
        return Rate(sum(not answer.found for answer in faulty), len(faulty))

    @property
    def causes_missed(self) -> Rate:
        """Faulty scripts, answered right, whose cause was not named."""
        found = [answer for answer in self.answers if answer.faulty and answer.found]
        return Rate(sum(not answer.cause_named for answer in found), len(found))

    @property
    def false_alarms(self) -> Rate:
        """Healthy scripts called unhealthy."""
        healthy = [answer for answer in self.answers if not answer.faulty]
        return Rate(sum(answer.false_alarm for answer in healthy), len(healthy))


_SCRIPTS = TypeAdapter(tuple[Script, ...])
_RECORD = TypeAdapter(Record)


def exam_directory() -> Path:
    """The directory of the exam's scripts."""
    return places().the_checkout("the exam") / "tests" / "exam"


def scripts(directory: Path | None = None) -> tuple[Script, ...]:
    """All scripts of the exam.

    Raises:
        RecordsError: a table is not valid.
    """
    found: list[Script] = []
    for name in TABLES:
        path = (directory or exam_directory()) / name
        try:
            found += _SCRIPTS.validate_python(tomllib.loads(path.read_text(encoding="utf-8"))["script"])
        except (OSError, ValueError, KeyError, ValidationError) as error:
            raise RecordsError(
                "it is not a valid table of scripts",
                where=str(path),
                meaning=str(error),
                todo="Give every [[script]] the fields of finetune_compat.evidence.exam.Script.",
            ) from None
    return tuple(found)


def on(stack: str, words: str = "") -> tuple[Script, ...]:
    """The scripts that run on `stack`; with `words`, only those whose path or kind contains it."""
    return tuple(
        script
        for script in scripts()
        if stack in (script.stack, *script.stacks) and (words in script.path or words in script.kind)
    )


# ----------------------------------------------------------------------------------------------------------- one script


class Seat:
    """Where scripts are watched, one after the other: an interpreter, and a process with its libraries to fork from."""

    def __init__(self, stack: str) -> None:
        path = (str(exam_directory()), os.environ.get("PYTHONPATH", ""))
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, path))
        self.interpreter = of_stack(stack_python(read_matrix(), stack))
        self.ledger = load_ledger()
        self.warm = Warm(self.interpreter.python, environ_of(Path()), self.interpreter.name)

    def ask(self, script: Script) -> Answer:
        """Watch one script, in an empty working directory."""
        clock = time.perf_counter()
        verdicts, trouble = self._watch(script)
        failing = [one for verdict in verdicts for one in verdict.opinions if one.result is Result.FAIL]
        said = "; ".join(verdict.reason for verdict in verdicts)
        codes = tuple(dict.fromkeys(one.code for one in failing))
        words = " ".join([said, *(one.message for one in failing), *(CODES[code].advice for code in codes)])
        return Answer(
            path=script.path,
            kind=script.kind,
            right=script.right,
            also=script.also,
            answer=_ANSWERS[exit_code(verdicts)] if verdicts else BROKEN,
            codes=codes,
            cause_named=bool(script.cause) and re.search(script.cause, words, re.IGNORECASE) is not None,
            said=said or trouble,
            seconds=round(time.perf_counter() - clock, 1),
        )

    def _watch(self, script: Script) -> tuple[tuple[Verdict, ...], str]:
        """The verdicts, or why there is none."""
        given = [*script.launcher.split(), str(exam_directory() / script.path), *script.arguments]
        limit = threading.Timer(LIMIT_S, os.kill, (os.getpid(), signal.SIGTERM))
        with tempfile.TemporaryDirectory(prefix="compat-exam-") as folder, contextlib.chdir(folder):
            limit.start()
            try:
                return verdicts_on(run_pipeline(given, self.interpreter, warm=self.warm), self.ledger), ""
            except CompatError as error:
                return (), str(error)
            except Interrupted:
                return (), f"it took more than {LIMIT_S:.0f} s"
            finally:
                limit.cancel()


_seat: Seat | CompatError | None = None
"""The seat of a worker process, or why there is none."""


def _sit(stack: str) -> None:
    """Prepare a worker process. The output of scripts is not shown."""
    global _seat  # noqa: PLW0603 - one per process
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    try:
        _seat = Seat(stack)
    except CompatError as error:
        _seat = error  # An error here would break the pool without a message.


def _ask(script: Script) -> Answer:
    if _seat is None:
        raise AssertionError("_sit was not called")
    if isinstance(_seat, CompatError):
        raise _seat
    return _seat.ask(script)


# -------------------------------------------------------------------------------------------------------------- records


def hold(stack: str, words: str, jobs: int, say: Callable[[str], None]) -> Record:
    """Ask all scripts of `stack`, `jobs` at once, and report progress."""
    asked = on(stack, words)
    if not asked:
        raise CompatError(
            f"no script runs on {stack}" if not words else f"no script of {stack} matches {words!r}",
            where="nox -s exam",
            todo="Name a stack of tests/exam/*.toml, and part of a path or kind.",
        )
    return record_of(stack, answers_to(stack, asked, jobs, say))


def answers_to(stack: str, asked: Sequence[Script], jobs: int, say: Callable[[str], None]) -> tuple[Answer, ...]:
    """Watch the scripts on `stack`, `jobs` at once, and report progress. One answer for each, in the same order."""
    answers: list[Answer] = []
    # Watches note signals, which only the main thread of a process gets.
    with concurrent.futures.ProcessPoolExecutor(jobs, initializer=_sit, initargs=(stack,)) as pool:
        for answer in pool.map(_ask, asked):
            answers.append(answer)
            sign = "" if answer.found else f"  WRONG, {answer.right} is right"
            say(f"{stack} {len(answers)} of {len(asked)}: {answer.answer}  {answer.path}{sign}")
    return tuple(answers)


def record_of(stack: str, answers: tuple[Answer, ...]) -> Record:
    """The record of answers that were given just now."""
    return Record(stack, commit(), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), answers)


def save(record: Record, directory: Path | None = None) -> Path:
    """Store a record in place of an earlier one of its stack, and rewrite the page."""
    directory = directory or places().exam
    path = directory / f"{record.stack}.json"
    write_atomically(path, json.dumps(dataclasses.asdict(record), indent=1) + "\n")
    write_atomically(directory / "exam.md", page(read_records(directory)))
    return path


def read_records(directory: Path | None = None) -> tuple[Record, ...]:
    """All stored records, in the order of the stacks.

    Raises:
        RecordsError: one cannot be read.
    """
    found = []
    for path in sorted((directory or places().exam).glob("*.json")):
        todo = "Restore the file from the repository, or hold the exam of its stack again."
        found.append(read_record(_RECORD, path, name="a record of the exam", todo=todo))
    return tuple(sorted(found, key=lambda record: stack_order(record.stack)))


# ----------------------------------------------------------------------------------------------------------------- page

INTRODUCTION = """\
`compat watch` judges scripts that were written without reading its checks: faulty ones with one fault each, and healthy
ones that are unusual but right. Written by `nox -s exam`. A wrong answer to a faulty script is a miss. "Could not tell"
is a miss too, unless the table of the exam allows it. A cause is named if the finding or its advice has the words that
any explanation of the fault must have.\
"""


def page(records: Sequence[Record]) -> str:
    """The page, in Markdown."""
    parts = ["# How often is a watched script answered right?", INTRODUCTION, _table(_HEAD, map(_scores, records))]
    for record in records:
        parts += [f"## {record.stack}", f"Measured {record.measured} at commit {record.commit}."]
        parts += [_table(_KINDS, _by_kind(record)), *_wrong(record)]
    return "\n\n".join(parts) + "\n"


_HEAD = ("stack", "faults missed", "causes not named, of faults found", "false alarms", "no answer")
_KINDS = ("kind of fault", "scripts", "found", "cause named")


def _scores(record: Record) -> tuple[str, ...]:
    broken = sum(answer.answer == BROKEN for answer in record.answers)
    rates = (record.missed, record.causes_missed, record.false_alarms)
    return (record.stack, *map(str, rates), str(broken))


def _by_kind(record: Record) -> Iterator[tuple[str, ...]]:
    faulty = [answer for answer in record.answers if answer.faulty]
    for kind in dict.fromkeys(answer.kind for answer in faulty):
        of_kind = [answer for answer in faulty if answer.kind == kind]
        found = [answer for answer in of_kind if answer.found]
        yield kind, str(len(of_kind)), str(len(found)), str(sum(answer.cause_named for answer in found))


def _wrong(record: Record) -> list[str]:
    reasons = {script.path: script.missed for script in scripts()}
    wrong = [answer for answer in record.answers if not answer.found]
    rows = [(one.path, one.right, one.answer, one.said, reasons.get(one.path, "")) for one in wrong]
    return [_table(("answered wrongly", "right", "answer", "said", "why"), rows)] if rows else []


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(map(_cell, cells))} |" for cells in [head, ["---"] * len(head), *rows])


def _cell(text: str) -> str:
    one_line = " ".join(text.split())
    return one_line[:300].replace("|", "\\|")


def main(arguments: Sequence[str]) -> None:
    """`nox -s exam -- [STACK]... [-k WORDS] [-j N] [--planted]`: store the records if no script was left out."""
    parser = argparse.ArgumentParser(prog="nox -s exam --", description="Hold the exam of compat watch.")
    parser.add_argument("stacks", nargs="*", default=["trl1.16"], help="Stacks of the matrix. Default: trl1.16.")
    parser.add_argument("-k", default="", metavar="WORDS", help="Only scripts whose path or kind contains this.")
    parser.add_argument("-j", type=int, default=os.cpu_count() or 1, metavar="N", help="Scripts at once.")
    parser.add_argument("--planted", action="store_true", help="The planted faults of every check, not the exam.")
    given = parser.parse_args(arguments)
    try:
        for stack in given.stacks:
            if given.planted:
                _plant(stack, given.k, given.j)
                continue
            record = hold(stack, given.k, given.j, functools.partial(print, flush=True))
            print(*_scores(record), sep=" | ")
            if not given.k:
                print(f"stored in {save(record)}")
    except CompatError as error:
        print(error, file=sys.stderr)
        raise SystemExit(error.exit_code) from None


def _plant(stack: str, words: str, jobs: int) -> None:
    from finetune_compat.evidence import faults, planted_scripts

    print(planted_scripts.hold(stack, words, jobs, functools.partial(print, flush=True)))
    faults.publish()


if __name__ == "__main__":
    main(sys.argv[1:])
