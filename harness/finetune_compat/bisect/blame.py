"""`compat blame`: which package. The smallest set of package changes that flips a result between two sides."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field

from finetune_compat.bisect.probe import Bench, Probe, subject
from finetune_compat.checks import drift
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.contract.errors import CompatError, ExitCode
from finetune_compat.contract.options import DeviceChoice
from finetune_compat.contract.redaction import redact_words
from finetune_compat.gate.inputs import read_side
from finetune_compat.gate.mixture import Two
from finetune_compat.gate.resolve import resolve
from finetune_compat.gate.resolved import Resolved
from finetune_compat.history.condition import VERDICT, condition, levels
from finetune_compat.history.minimal import minimal
from finetune_compat.machine.console import silent_stdout
from finetune_compat.machine.gpus import kind_of
from finetune_compat.run import stack_run
from finetune_compat.run.options import RunOptions
from finetune_compat.stacks.matrix import read_matrix
from finetune_compat.watch.host import STEPS


@dataclass(frozen=True, slots=True)
class BlameRequest:
    """The options of one call. None or an empty value means that the option was not given."""

    before: tuple[str, ...]
    after: tuple[str, ...]
    flow: str | None = None
    cell: str | None = None
    script: str | None = None
    arguments: tuple[str, ...] = ()
    condition: str = ""
    tolerance: float | None = None
    device: DeviceChoice | None = None
    python: str | None = None
    steps: int | None = None

    @property
    def command(self) -> str:
        """The command line of the call, without secrets."""
        words = ["compat", "blame"]
        for option, values in (("--from", self.before), ("--to", self.after)):
            words += [word for value in values for word in (option, value)]
        given = (
            ("--flow", self.flow),
            ("--cell", self.cell),
            ("--script", self.script),
            ("--condition", self.condition or None),
            ("--tolerance", self.tolerance),
            ("--device", self.device),
            ("--python", self.python),
            ("--steps", self.steps),
        )
        for option, value in given:
            words += [option, str(value)] if value is not None else []
        words += ["--", *self.arguments] if self.arguments else []
        return shlex.join(redact_words(words))


@dataclass(frozen=True, slots=True)
class Blamed:
    """One difference between the sides, and the packages that make it."""

    difference: str
    before: str
    """What the first side gives."""
    after: str
    packages: tuple[str, ...]
    """The smallest set found (example: `transformers 4.56.2 -> 4.57.1`)."""
    followed: tuple[str, ...]
    """Packages that the resolver had to move along."""
    breaks: bool | None
    """Whether moving only these on the first side gives what the second side gives. None: it could not be run."""
    repairs: bool | None
    """Whether undoing only these on the second side gives what the first side gives. None: it could not be run."""

    @property
    def proven(self) -> bool:
        """Whether it holds both ways."""
        return self.breaks is True and self.repairs is True


@dataclass(frozen=True, slots=True)
class BlameAnswer:
    """Everything that `compat blame` found."""

    before: str
    after: str
    subject: str
    moved: tuple[str, ...]
    """All packages whose versions differ."""
    blamed: tuple[Blamed, ...]
    unsolvable: tuple[str, ...]
    """Sets of versions that the resolver refused, or that gave no result."""
    runs: int
    command: str
    run: str


@dataclass(frozen=True, slots=True)
class Question:
    """A difference between two sides."""

    name: str
    before: str
    after: str
    like_after: Callable[[Probe], bool | None]
    """Whether versions give what the second side gives. None if they give neither, or no result."""


def blame_command(request: BlameRequest, *, as_json: bool) -> int:
    """Find the packages and print them. Exit code 0 if every difference has its packages, proven both ways; else 3.

    Raises:
        CompatError: an option is invalid, the sides do not differ, or the index does not answer.
    """
    with silent_stdout():
        answer = blame(request)
    print(json.dumps(asdict(answer), indent=1) if as_json else "\n".join(_terminal(answer)))
    proven = bool(answer.blamed) and all(blamed.proven for blamed in answer.blamed)
    return ExitCode.HEALTHY if proven else ExitCode.COULD_NOT_TELL


def blame(request: BlameRequest) -> BlameAnswer:
    """Find the packages that make two sides differ.

    Raises:
        CompatError: an option is invalid, the sides do not differ, or the index does not answer.
    """
    asked = condition(request.condition or VERDICT, request.tolerance)
    what = subject(request.flow, request.cell, request.script, request.arguments, request.steps or STEPS, asked.tier)
    matrix = read_matrix()
    options = RunOptions(device=request.device or DeviceChoice.AUTO, tier=asked.tier)
    gpus = stack_run.chosen_gpus(options, "compat blame")
    device = kind_of(gpus)
    sides = [
        resolve(read_side(texts, option, matrix, request.python), " ".join(texts), matrix, device, request.python, _say)
        for texts, option in ((request.before, "--from"), (request.after, "--to"))
    ]
    two = Two(matrix, device, *sides)
    bench = Bench(stack_run.this_run(), load_ledger(), what, asked, device, gpus, options, _say)
    search = Blame(two, bench)
    questions = search.questions(by_condition=bool(request.condition))
    blamed = tuple(search.of(question) for question in questions)
    one, other = (lock.requirements for lock in two.locks)
    return BlameAnswer(
        before=two.before.asked,
        after=two.after.asked,
        subject=str(what),
        moved=tuple(f"{name} {one.get(name, '-')} -> {other.get(name, '-')}" for name in two.changed),
        blamed=blamed,
        unsolvable=tuple(search.refused),
        runs=sum(probe.ran for probe in bench.done.values()),
        command=request.command,
        run=str(bench.run),
    )


@dataclass(slots=True)
class Blame:
    """The search between two sides."""

    two: Two
    bench: Bench
    refused: list[str] = field(default_factory=list)

    def questions(self, *, by_condition: bool) -> list[Question]:
        """The differences between the sides: the condition's, else the verdict's, else each kind of drift.

        Raises:
            CompatError: the sides give the same, or one of them gives no result.
        """
        before, after = (self._probe(side) for side in (self.two.before, self.two.after))
        for side, probe in ((self.two.before, before), (self.two.after, after)):
            if probe.measured.state is None:
                raise CompatError(
                    probe.measured.shown, where=side.asked, todo="Name sides on which the cell or script runs."
                )
        found = of_states(before, after, self.bench.condition.tolerance, str(self.bench.condition.text))
        drifts = [] if found or by_condition else of_drift(before, after)
        if not found and not drifts:
            raise CompatError(
                f"both sides give the same: {before.measured.shown}",
                where=f"{self.two.before.asked}, {self.two.after.asked}",
                meaning="There is nothing to find a package for.",
                todo="Name another cell, or a condition that differs (--condition, --tolerance).",
            )
        return [found] if found else drifts

    def of(self, question: Question) -> Blamed:
        """The packages that make one difference."""
        main = [name for name in self.two.changed if name in self.two.matrix.packages]
        rest = [name for name in self.two.changed if name not in main]

        def flips(parts: frozenset[tuple[str, ...]]) -> bool | None:
            return self._like_after(question, {name for part in parts for name in part})

        parts = [*((name,) for name in main), *([tuple(rest)] if rest else [])]
        chosen = {name for part in minimal(parts, flips) for name in part}
        if chosen & {*rest}:
            single = [(name,) for name in self.two.changed if name in chosen]
            chosen = {name for part in minimal(single, flips) for name in part}
        return self._proven(question, chosen)

    def _proven(self, question: Question, names: set[str]) -> Blamed:
        one, other = (lock.requirements for lock in self.two.locks)
        backwards = Two(self.two.matrix, self.two.device, self.two.after, self.two.before)
        undone = question.like_after(self._probe(backwards.moved(names)))
        return Blamed(
            difference=question.name,
            before=question.before,
            after=question.after,
            packages=tuple(
                f"{name} {one.get(name, '-')} -> {other.get(name, '-')}" for name in self.two.changed if name in names
            ),
            followed=self.two.followed(self.two.moved(names), names),
            breaks=self._like_after(question, names),
            repairs=None if undone is None else not undone,
        )

    def _like_after(self, question: Question, names: set[str]) -> bool | None:
        return question.like_after(self._probe(self.two.moved(names)))

    def _probe(self, of: Resolved) -> Probe:
        known = of.stack in self.bench.done
        probe = self.bench.probe(of)
        if not known:
            self.bench.progress(f"{of.asked}: {probe.measured.shown}")
            self.refused += [f"{of.asked}: {probe.measured.shown}"] if probe.measured.state is None else []
        return probe


def of_states(before: Probe, after: Probe, tolerance: float | None, name: str) -> Question | None:
    """The difference of the condition's results; None if they are equal."""
    if tolerance is not None:
        return _of_numbers(before, after, tolerance, name)
    one, other = before.measured.state, after.measured.state
    if one == other:
        return None

    def like_after(probe: Probe) -> bool | None:
        state = probe.measured.state
        return {one: False, other: True}.get(state) if state is not None else None

    return Question(name, before.measured.shown, after.measured.shown, like_after)


def _of_numbers(before: Probe, after: Probe, tolerance: float, name: str) -> Question | None:
    one, other = before.measured.number, after.measured.number
    if one is None or other is None or levels((one, other), tolerance) == (0, 0):
        return None

    def like_after(probe: Probe) -> bool | None:
        number = probe.measured.number
        return None if number is None else {0: False, 1: True}.get(levels((one, other, number), tolerance)[2])

    return Question(name, before.measured.shown, after.measured.shown, like_after)


def of_drift(before: Probe, after: Probe) -> list[Question]:
    """One question for each kind of drift between the sides."""
    if before.seen is None or after.seen is None:
        return []
    first = before.seen

    def asks(kind: drift.DriftKind) -> Callable[[Probe], bool | None]:
        def like_after(probe: Probe) -> bool | None:
            if probe.seen is None or probe.seen.training is None:
                return None
            return kind in {change.kind for change in drift.changes(first, probe.seen)}

        return like_after

    return [
        Question(str(change.kind), *_both(change.detail), asks(change.kind))
        for change in drift.changes(first, after.seen)
    ]


def _both(detail: str) -> tuple[str, str]:
    before, _, after = detail.partition(" -> ")
    return before, after


def _terminal(answer: BlameAnswer) -> Iterator[str]:
    yield f"{answer.subject} from {answer.before} to {answer.after}; {len(answer.moved)} packages moved"
    for blamed in answer.blamed:
        yield ""
        yield f"{blamed.difference}: {blamed.before} -> {blamed.after}"
        yield f"  because of {', '.join(blamed.packages)}"
        if blamed.followed:
            yield f"  which the resolver cannot move without {', '.join(blamed.followed)}"
        yield f"  moving only {_these(blamed.packages)} changes {answer.before}: {_answer(blamed.breaks)}"
        yield f"  undoing only {_these(blamed.packages)} restores it on {answer.after}: {_answer(blamed.repairs)}"
        yield f"  {'PROVEN both ways' if blamed.proven else 'not proven both ways'}"
    yield ""
    yield from (f"could not be tried: {text}" for text in answer.unsolvable)
    yield f"{answer.runs} runs. Observations: {answer.run}"


def _these(packages: Sequence[str]) -> str:
    return "it" if len(packages) == 1 else "these"


def _answer(holds: bool | None) -> str:  # noqa: FBT001 - a value with three states
    return {True: "yes", False: "no", None: "could not be tried"}[holds]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
