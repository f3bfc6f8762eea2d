"""`compat refresh`: bring the matrix up to date with the package index, and say what is new."""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Callable, Iterator, Mapping
from datetime import date

from packaging.version import Version

from finetune_compat.contract.errors import ExitCode, LockError
from finetune_compat.machine.files import write_atomically
from finetune_compat.machine.places import places
from finetune_compat.machine.units import counted
from finetune_compat.stacks import index
from finetune_compat.stacks.ask import stack_python
from finetune_compat.stacks.floors import floors, unmet
from finetune_compat.stacks.locks import Lock, drop_orphans, exit_code, locked, make_locks, summary
from finetune_compat.stacks.matrix import Matrix, Stack, read_matrix
from finetune_compat.stacks.matrix_text import as_of_today, with_rows
from finetune_compat.stacks.news import News, news_of


def refresh(today: date, say: Callable[[str], None], *, check: bool) -> ExitCode:
    """Add rows, move rows to newer patches, make the unpinned stacks as of `today`, and print what is new.

    Args:
        today: the day of the unpinned stacks, and the end of the cool-down.
        say: prints a line.
        check: write nothing, and return UNHEALTHY if the matrix lacks something.

    Raises:
        RegistryUnreachable: the index does not answer. Nothing is written.
        MatrixError: stacks.toml has faults, or rows that cannot be edited.
    """
    places().the_checkout("compat refresh")
    matrix = read_matrix()
    found = functools.reduce(operator.add, (_asked(matrix, package, today, say) for package in matrix.since), News())
    for line in (*found.rows, *found.left_out):
        say(f"  {line}")
    if check:
        say(f"{counted(len(found.rows), 'row')} to add or move")
        return ExitCode.UNHEALTHY if found.rows else ExitCode.HEALTHY
    before = _unpinned_versions(matrix)
    text = places().stacks.read_text(encoding="utf-8")
    write_atomically(places().stacks, as_of_today(with_rows(text, found.rows), today))
    return _lock(read_matrix(), matrix, before, say)


def _asked(matrix: Matrix, package: str, today: date, say: Callable[[str], None]) -> News:
    say(f"{package}: reading {index.index_url()}")
    return news_of(matrix, package, index.releases(package), index.yanked(package), today, _elsewhere(matrix, package))


def _elsewhere(matrix: Matrix, package: str) -> dict[str, Version]:
    """The locked version of `package` in each row of another axis. A stack without a usable lock is left out."""
    others = (stack for stack in matrix.stacks if stack.package not in {"", package})
    versions = ((stack.name, _locked_versions(matrix, stack).get(package)) for stack in others)
    return {name: Version(version) for name, version in versions if version}


def _lock(
    matrix: Matrix, before: Matrix, versions: Mapping[str, Mapping[str, str]], say: Callable[[str], None]
) -> ExitCode:
    """Lock the rows that `before` does not have, and the unpinned stacks, and say what these resolve to."""
    new = [stack for stack in matrix.stacks if stack not in before.stacks]
    results = make_locks([plan for stack in new for plan in matrix.plans(stack)], say)
    drop_orphans([plan for stack in matrix.stacks for plan in matrix.plans(stack)])
    say(summary(results))
    for name, now in _unpinned_versions(matrix).items():
        for line in (*_moves(matrix, versions.get(name, {}), now), *_unmet_floors(matrix, name, now)):
            say(f"{name}: {line}")
    return exit_code(results)


def _unpinned_versions(matrix: Matrix) -> dict[str, Mapping[str, str]]:
    """The locked versions of each unpinned stack that has a lock."""
    unpinned = ((stack.name, _locked_versions(matrix, stack)) for stack in matrix.stacks if not stack.package)
    return {name: versions for name, versions in unpinned if versions}


def _locked_versions(matrix: Matrix, stack: Stack) -> Mapping[str, str]:
    """The versions that `stack` is locked to on its first Python; empty if it has no usable lock."""
    with contextlib.suppress(LockError):
        lock = locked(matrix.plan(stack, stack.pythons[0]))
        if isinstance(lock, Lock):
            return lock.requirements
    return {}


def _moves(matrix: Matrix, before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for package in matrix.packages:
        old, new = before.get(package, "none"), now.get(package, "none")
        if old != new:
            yield f"{package} {old} -> {new}"


def _unmet_floors(matrix: Matrix, name: str, versions: Mapping[str, str]) -> Iterator[str]:
    site = stack_python(matrix, name).site
    for package in matrix.packages:
        for floor in unmet(versions, floors(site, package)):
            newest = index.releases(floor.of)[-1].version
            yield (
                f"{package} {versions[package]} asks for {floor.of} >= {floor.version} ({floor.where}); "
                f"locked is {versions[floor.of]}, and the newest release is {newest}"
            )
