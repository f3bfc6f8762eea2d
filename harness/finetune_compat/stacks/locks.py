"""Hashed locks: the packages that the resolver chose for a stack, on one Python version, as of one day.

A lock is a requirements file with a header of facts: the inputs of the resolver. A lock is stale if its facts differ
from those of the matrix. torch and its CUDA packages are the platform layer, and are never in a lock.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from datetime import date, timedelta
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory

from finetune_compat.contract.errors import ExitCode, LockError
from finetune_compat.machine.files import write_atomically
from finetune_compat.machine.places import places
from finetune_compat.stacks.hashed_pins import Malformed, locked_versions
from finetune_compat.stacks.matrix import LockPlan
from finetune_compat.stacks.uv_tool import Answer, lock_environ, one_line, run_uv

AT_ONCE = 4
"""Parallel resolutions. Each takes about a second, and waits for the registry most of that time."""
PLATFORM_PREFIXES = ("nvidia-", "cuda-", "triton")
"""Package names that only CUDA builds of torch require. None of them may be in a lock, even if the matrix does not
exclude it.
"""

WHEELS = "wheels"
"""The fact that names the folders of wheels that this machine built. Their paths have no spaces."""

_HEADER = "# Made by `nox -s lock`, from matrices/stacks.toml. Never edited by hand."
_NO_PLATFORM = ("nvidia-ml-py",)
"""Names that begin like those of CUDA packages, and are plain Python."""
_HEADER_ELSE = "# Made for a stack that is no row of matrices/stacks.toml. Never edited by hand."
_FACT = re.compile(r"# ([a-z-]+): (.*)")


def is_platform(name: str) -> bool:
    """Whether a canonical name is that of a package that only CUDA builds of torch require."""
    return name.startswith(PLATFORM_PREFIXES) and name not in _NO_PLATFORM


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock file: the packages to install, and the inputs of the resolver."""

    path: Path
    sha256: str
    requirements: Mapping[str, str]
    """Version by canonical name."""
    facts: Mapping[str, str]
    """The header: the inputs of the resolver."""


@dataclass(frozen=True, slots=True)
class Unsolvable:
    """A plan for which the resolver found no solution, with the resolver's output."""

    path: Path
    reason: str
    facts: Mapping[str, str]

    @property
    def cause(self) -> str:
        """The reason on one line, without uv's conclusion."""
        return one_line(self.reason).rpartition("cause: ")[2].partition(", we can conclude")[0]


class Outcome(StrEnum):
    """The outcome of one plan."""

    UNCHANGED = "unchanged"
    LOCKED = "locked"
    STILL_UNSOLVABLE = "still unsolvable"
    NEWLY_UNSOLVABLE = "newly unsolvable"
    COULD_NOT_ASK = "not resolved, nothing written"
    """The registry does not answer, or uv itself failed: the committed lock is unchanged."""


@dataclass(frozen=True, slots=True)
class Result:
    """A plan, its outcome, and details for the user."""

    plan: LockPlan
    outcome: Outcome
    detail: str

    def __str__(self) -> str:
        return f"{self.plan.name}: {self.outcome}, {self.detail}"


# ------------------------------------------------------------------------------------------------------------ reading


def facts_of(plan: LockPlan) -> dict[str, str]:
    """The inputs of the resolver for `plan`, as the header of its lock states them."""
    return {
        "lock": plan.name,
        "stack": plan.stack.name,
        "python": plan.python,
        "platform": plan.platform,
        "as-of": plan.as_of.isoformat(),
        "torch": plan.torch,
        "asked": " ".join(plan.requirements),
        "exempt": " ".join(f"{name}<={until}" for name, until in sorted(plan.exempt.items())) or "none",
        "excluded": " ".join(sorted(plan.excluded)),
        **({"constrained": _digest(plan.constraints)} if plan.constraints else {}),
        **({"overridden": _digest(plan.overrides)} if plan.overrides else {}),
        **({"preferred": _digest(plan.preferences)} if plan.preferences else {}),
        **({WHEELS: " ".join(map(str, plan.wheels))} if plan.wheels else {}),
        **({"prereleases": "allowed"} if plan.prereleases else {}),
        "again": plan.again or f"nox -s lock -- {plan.stack.name}",
    }


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def lock_path(plan: LockPlan, locks: Path | None = None) -> Path:
    """The path of the lock of `plan` in `locks`; by default in the directory of the matrix's locks."""
    return (locks or places().locks) / f"{plan.name}.txt"


def unsolvable_path(plan: LockPlan, locks: Path | None = None) -> Path:
    """The path of the resolver's reason, written if it found no solution."""
    return (locks or places().locks) / f"{plan.name}.unsolvable.txt"


def locked(plan: LockPlan, locks: Path | None = None) -> Lock | Unsolvable:
    """The committed lock of `plan`, or the reason why it has none.

    Raises:
        LockError: the file is missing, cannot be read, or is stale: its facts differ from those of `plan`.
    """
    reason = unsolvable_path(plan, locks)
    found: Lock | Unsolvable = _read_unsolvable(reason) if reason.exists() else read_lock(lock_path(plan, locks))
    asked = facts_of(plan)
    stale = [key for key in asked if found.facts.get(key) != asked[key]]
    if stale:
        raise _stale(found, asked, stale[0])
    return found


def read_lock(path: Path) -> Lock:
    """The lock in `path`.

    Raises:
        LockError: the file is missing, or is not a lock this project wrote.
    """
    return _parse(_text(path), path)


def as_of(path: Path) -> str:
    """The day of a lock, or of the reason why there is none.

    Raises:
        LockError: it is neither.
    """
    facts, _, _ = _split(_text(path), path)
    return facts.get("as-of", "")


def _parse(text: str, path: Path) -> Lock:
    facts, size, body = _split(text, path)
    try:
        requirements = locked_versions(body, first_line=size + 1)
    except Malformed as problem:
        raise _malformed(path, str(problem)) from None
    if facts.get("packages") != str(len(requirements)):
        raise _malformed(
            path, f"its header states {facts.get('packages', 'no')} packages, but it has {len(requirements)}"
        )
    return Lock(path, hashlib.sha256(text.encode()).hexdigest(), requirements, facts)


def _read_unsolvable(path: Path) -> Unsolvable:
    facts, _, body = _split(_text(path), path)
    return Unsolvable(path, "\n".join(body).strip(), facts)


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise LockError(
            "there is no lock",
            where=_where(path),
            meaning="The row was added to the matrix, and its locks were not made yet.",
            todo=f"Make it: {_again(path)}",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise _malformed(path, f"it cannot be read: {error}") from None


def _split(text: str, path: Path) -> tuple[dict[str, str], int, list[str]]:
    """The facts, the number of lines in the header, and the other lines."""
    lines = text.splitlines()
    if not lines or lines[0] not in (_HEADER, _HEADER_ELSE):
        raise _malformed(path, "line 1 is not the header of a lock")
    size = next((index for index, line in enumerate(lines) if not line.startswith("#")), len(lines))
    found = (_FACT.fullmatch(line) for line in lines[1:size])
    return {match[1]: match[2] for match in found if match}, size, lines[size:]


def _malformed(path: Path, problem: str) -> LockError:
    return LockError(
        f"not a lock: {problem}",
        where=_where(path),
        meaning="It was edited by hand, or cut off by a merge.",
        todo=f"Make it again: {_again(path)}",
    )


def _stale(found: Lock | Unsolvable, asked: Mapping[str, str], key: str) -> LockError:
    return LockError(
        f"the lock is stale: its {key} is {found.facts.get(key, 'missing')!r}, in the matrix it is {asked[key]!r}",
        where=_where(found.path),
        meaning="matrices/stacks.toml changed after the lock was made.",
        todo=f"Make it again: {asked['again']}",
    )


def _where(path: Path) -> str:
    return places().shown(path)


def _again(path: Path) -> str:
    return f"nox -s lock -- {path.name.partition('-py')[0]}"


# ------------------------------------------------------------------------------------------------------------- making


def make_locks(
    plans: Iterable[LockPlan], progress: Callable[[str], None], locks: Path | None = None
) -> tuple[Result, ...]:
    """Resolve every plan, and write its lock or the reason why it has none. All plans are resolved, whatever fails.

    Args:
        plans: the locks to make.
        progress: called with one line of progress after each plan.
        locks: the directory to write to; by default that of the matrix's locks.

    Raises:
        InstallError: there is no uv.
    """
    locks = locks or places().locks
    todo = tuple(plans)
    results: list[Result] = []
    locks.mkdir(parents=True, exist_ok=True)
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        for future in as_completed([pool.submit(_make, plan, locks) for plan in todo]):
            results.append(future.result())
            progress(f"[{len(results):>{len(str(len(todo)))}}/{len(todo)}] {results[-1]}")
    finally:
        # When interrupted, do not resolve the remaining plans.
        pool.shutdown(cancel_futures=True)
    order = [plan.name for plan in todo]
    return tuple(sorted(results, key=lambda result: order.index(result.plan.name)))


def drop_orphans(plans: Iterable[LockPlan], locks: Path | None = None) -> tuple[str, ...]:
    """Remove the files that belong to none of `plans`, all plans of the matrix, and return their names."""
    locks = locks or places().locks
    kept = {path for plan in plans for path in (lock_path(plan, locks), unsolvable_path(plan, locks))}
    orphans = sorted(set(locks.glob("*.txt")) - kept)
    for path in orphans:
        path.unlink()
    return tuple(path.name for path in orphans)


def exit_code(results: Iterable[Result]) -> ExitCode:
    """The exit code: healthy, unless a plan is newly unsolvable or was not resolved."""
    outcomes = {result.outcome for result in results}
    if Outcome.NEWLY_UNSOLVABLE in outcomes:
        return ExitCode.ENVIRONMENT
    return ExitCode.COULD_NOT_TELL if Outcome.COULD_NOT_ASK in outcomes else ExitCode.HEALTHY


def summary(results: Iterable[Result]) -> str:
    """The outcomes of all plans in one line, for example `97 unchanged, 3 still unsolvable`."""
    outcomes = [result.outcome for result in results]
    return (
        ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in Outcome if outcome in outcomes)
        or "nothing to do"
    )


def _make(plan: LockPlan, locks: Path) -> Result:
    answer = _resolve(plan)
    if answer.ok:
        return _write_lock(plan, answer.output, locks)
    if answer.unsolvable:
        return _write_unsolvable(plan, answer.complaint, locks)
    return Result(plan, Outcome.COULD_NOT_ASK, answer.cause)


def _resolve(plan: LockPlan) -> Answer:
    """Run uv's resolver. Wheels only: whether and how a source distribution builds depends on the machine."""
    with TemporaryDirectory() as scratch:
        excluded = Path(scratch) / "excluded.txt"
        excluded.write_text("\n".join(plan.excluded), encoding="utf-8")
        arguments = [
            *("pip", "compile", "-", "--quiet", "--generate-hashes", "--no-header", "--no-annotate", "--no-build"),
            *("--python-version", plan.python, "--python-platform", plan.platform),
            *("--no-emit-package", "torch", "--excludes", str(excluded)),
            *("--exclude-newer", _end_of(plan.as_of)),
        ]
        if plan.constraints:
            constraints = Path(scratch) / "constraints.txt"
            constraints.write_text("\n".join(plan.constraints), encoding="utf-8")
            arguments += ["--constraints", str(constraints)]
        if plan.overrides:
            overrides = Path(scratch) / "overrides.txt"
            overrides.write_text("\n".join(plan.overrides), encoding="utf-8")
            arguments += ["--overrides", str(overrides)]
        made = Path(scratch) / "made.txt"
        if plan.preferences:
            # uv keeps the versions of an existing output file where it can.
            made.write_text("\n".join(plan.preferences), encoding="utf-8")
            arguments += ["--output-file", str(made)]
        for wheels in plan.wheels:
            arguments += ["--find-links", str(wheels)]
        arguments += ["--prerelease", "allow"] if plan.prereleases else []
        for name, until in sorted(plan.exempt.items()):
            arguments += ["--exclude-newer-package", f"{name}={_end_of(until)}"]
        asked = (*plan.requirements, f"torch=={plan.torch}")
        answer = run_uv(arguments, environ=lock_environ(), stdin="\n".join(asked))
        return replace(answer, output=made.read_text(encoding="utf-8")) if answer.ok and plan.preferences else answer


def _end_of(day: date) -> str:
    """The moment for `--exclude-newer`: uv excludes files uploaded at or after it. A date without a time would be in
    the machine's time zone.
    """
    return f"{day + timedelta(days=1)}T00:00:00Z"


def _write_lock(plan: LockPlan, body: str, locks: Path) -> Result:
    path = lock_path(plan, locks)
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    size = body.count("==")
    text = _render(plan, body, packages=str(size))
    _refuse_platform_packages(text, path)
    if text != before:
        write_atomically(path, text)
    unsolvable_path(plan, locks).unlink(missing_ok=True)
    outcome = Outcome.UNCHANGED if text == before else Outcome.LOCKED
    return Result(plan, outcome, f"{size} packages as of {plan.as_of}")


def _write_unsolvable(plan: LockPlan, complaint: str, locks: Path) -> Result:
    path = unsolvable_path(plan, locks)
    outcome = Outcome.STILL_UNSOLVABLE if path.exists() else Outcome.NEWLY_UNSOLVABLE
    write_atomically(path, _render(plan, complaint))
    lock_path(plan, locks).unlink(missing_ok=True)
    return Result(plan, outcome, _read_unsolvable(path).cause)


def _refuse_platform_packages(text: str, path: Path) -> None:
    names = _parse(text, path).requirements
    foreign = [name for name in names if name == "torch" or is_platform(name)]
    if foreign:
        raise LockError(
            f"the lock has packages of torch's CUDA build: {', '.join(foreign)}",
            where=_where(path),
            meaning="This version of torch requires packages that torch.platform does not list.",
            todo="Add them to torch.platform in matrices/stacks.toml.",
        )


def _render(plan: LockPlan, body: str, **more: str) -> str:
    facts = [f"# {key}: {value}" for key, value in {**facts_of(plan), **more}.items()]
    header = _HEADER_ELSE if plan.again else _HEADER
    return "\n".join([header, *facts, body.strip()]) + "\n"
