"""`compat store`: list, verify and prune cached results, and copy them between machines."""

from __future__ import annotations

import datetime
import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finetune_compat.contract.errors import CompatError, ExitCode
from finetune_compat.machine.units import bytes_of

if TYPE_CHECKING:
    from finetune_compat.store.remote import Remote
    from finetune_compat.store.store import Store
    from finetune_compat.store.stored_files import Stored
    from finetune_compat.store.verify import Found

app = typer.Typer(name="store", help="Cached results of cells: list, verify, prune, export, import and push them.")

_JSON = Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")]
_SHORT = 12
"""Characters of an address that are shown: enough to distinguish a million results."""


@app.command("ls")
def ls(
    part: Annotated[str, typer.Argument(metavar="[PART]", help="Only cells whose name contains this.")] = "",
    *,
    as_json: _JSON = False,
) -> None:
    """List cached cells, latest first: time, address, outcome at that time, seconds."""
    from finetune_compat.store.store import Store

    store = Store.configured()
    found = [(cell, past) for cell, past in store.history().items() if part in cell]
    found.sort(key=lambda pair: (pair[1].recorded_at, pair[0]), reverse=True)
    if as_json:
        rows = [
            {
                "cell": cell,
                "address": past.address,
                "outcome": past.outcome,
                "duration_s": past.duration_s,
                "recorded_at": past.recorded_at,
            }
            for cell, past in found
        ]
        print(json.dumps(rows, indent=1))
        return
    for cell, past in found:
        when = past.recorded_at[:16].replace("T", " ")
        print(f"{when}  {past.address[:_SHORT]}  {past.outcome or '-':<8} {past.duration_s:>7.2f} s  {cell}")
    print(f"{len(found)} cells in {store.root}{_unmade(store.root)}")


def _unmade(root: Path) -> str:
    return "" if root.is_dir() else ", which does not exist yet: COMPAT_STORE names the directory"


@app.command()
def show(
    what: Annotated[
        str, typer.Argument(metavar="CELL_OR_ADDRESS", help="Id of a cell, or the first characters of an address.")
    ],
    *,
    as_json: _JSON = False,
) -> None:
    """Show what a cached result depends on and its outcome. With --json: everything, measurements included."""
    stored = _one(what)
    if as_json:
        print(stored.content.decode(), end="")
        return
    from finetune_compat.contract.recipe import to_dict

    print(f"address      {stored.recipe.address}")
    print(f"recorded_at  {stored.recorded_at} by harness {stored.harness}, judged {stored.outcome or '-'}")
    for name, value in to_dict(stored.recipe).items():
        print(f"{name:<12} {' '.join(value) if isinstance(value, tuple) else value}")


def _one(what: str) -> Stored:
    from finetune_compat.contract.errors import UnknownName
    from finetune_compat.store import stored_files
    from finetune_compat.store.store import Store

    store = Store.configured()
    history = store.history()
    address = history[what].address if what in history else what
    found = [each for each in stored_files.names(store.root) if each.startswith(address)]
    if len(found) != 1:
        raise UnknownName(
            f"{len(found) or 'no'} cached results match {what!r}",
            where=str(store.root),
            todo="`compat store ls` lists them: name a cell's whole id, or more characters of the address.",
        )
    answers = store.read(found)
    if found[0] not in answers:
        raise CompatError("the cached result is damaged", where=found[0], todo="Run the cell again to replace it.")
    return answers[found[0]]


@app.command()
def prune(
    *,
    older_than: Annotated[
        str | None, typer.Option(metavar="AGE", help="Remove results older than this: 90d, 12h.")
    ] = None,
    max_size: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Remove the oldest until the rest fits: 500MB, 1.5GB.")
    ] = None,
    unreachable: Annotated[
        bool,
        typer.Option("--unreachable", help="Remove results of other sources or locks than those of this installation."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be removed, and remove nothing.")
    ] = False,
) -> None:
    """Remove cached results from this machine. Their cells run again when they are next selected."""
    from finetune_compat.store import prune as pruning
    from finetune_compat.store.store import Store

    if older_than is None and max_size is None and not unreachable:
        raise CompatError(
            "no option says what to remove",
            where="compat store prune",
            todo="Give --older-than, --max-size or --unreachable. Add --dry-run to see what would be removed.",
        )
    before = None if older_than is None else datetime.datetime.now(datetime.UTC) - _age(older_than)
    most = None if max_size is None else _size(max_size)
    root = Store.configured().root
    kept = pruning.survey(root, unreachable=unreachable)
    going = pruning.doomed(kept, before=before, most=most, unreachable=unreachable)
    if not dry_run:
        pruning.remove(root, going)
    size = sum(each.size for each in going)
    verb = "would be removed" if dry_run else "removed"
    print(f"{len(going)} of {len(kept)} observations {verb}, {size / 1e6:.1f} MB, from {root}")


def _age(text: str) -> datetime.timedelta:
    match = re.fullmatch(r"(\d+)([dh])", text)
    if match is None:
        raise CompatError(f"{text!r} is not a valid age", where="--older-than", todo="Write days or hours: 90d, 12h.")
    return datetime.timedelta(**{"days" if match[2] == "d" else "hours": int(match[1])})


def _size(text: str) -> int:
    amount = bytes_of(text)
    if amount is None:
        raise CompatError(
            f"{text!r} is not a valid size", where="--max-size", todo="Write bytes with a unit: 500MB, 1.5GB, 2GiB."
        )
    return amount


@app.command("export")
def export(
    target: Annotated[Path, typer.Argument(metavar="FILE", help=".tar.gz file to write.")],
    run: Annotated[str, typer.Option(help="Name or directory of a run.")] = "latest",
) -> None:
    """Pack a run into one file: observations, locks, logs, and the commands that repeat it."""
    from finetune_compat.results.run_files import find_run
    from finetune_compat.store.archive import export as write
    from finetune_compat.store.store import Store

    found = find_run(run)
    number = write(found, Store.configured(), target)
    print(f"{target}: run {found.name}, {number} cached observations, {target.stat().st_size / 1e6:.1f} MB")


@app.command("import")
def take(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="File that `compat store export` wrote.")],
) -> None:
    """Import a run of another machine. A damaged or unknown file is refused as a whole."""
    from finetune_compat.store.archive import take as read
    from finetune_compat.store.store import Store

    arrived = read(source, Store.configured())
    here = "was already here" if arrived.already else "imported"
    print(f"run {arrived.run.name} {here}, {arrived.objects} cached observations are new")
    print(f"judge it: compat report {arrived.run.name}")


@app.command()
def verify(
    *,
    remote: Annotated[bool, typer.Option("--remote", help="Verify the shared store.")] = False,
    as_json: _JSON = False,
) -> int:
    """Read every cached result. Exit code 1 if a file is damaged, or two results of one cell disagree."""
    from finetune_compat.store.store import Store
    from finetune_compat.store.verify import verify as check

    store = Store.configured()
    if remote:
        with tempfile.TemporaryDirectory() as copy:
            _shared(store).copy(Path(copy))
            return _verified(check(Path(copy)), f"{store.remote}", as_json=as_json)
    if not store.root.is_dir():
        raise CompatError(
            "there is no store to verify",
            where=f"{store.root}",
            meaning="No cell has run with this directory as its store, or COMPAT_STORE names the wrong directory.",
            todo="`compat run` makes it. `compat store verify --remote` verifies the shared store.",
        )
    return _verified(check(store.root), f"{store.root}", as_json=as_json)


def _verified(found: Found, where: str, *, as_json: bool) -> int:
    if as_json:
        facts = {"whole": found.whole, "damaged": dict(found.damaged), "disagreements": dict(found.disagreements)}
        print(json.dumps(facts, indent=1))
        return ExitCode.HEALTHY if found.sound else ExitCode.UNHEALTHY
    for name, reason in found.damaged.items():
        print(f"damaged: {name}: {reason}")
    for address, fields in found.disagreements.items():
        print(f"disagree: {found.cells[address]} at {address[:_SHORT]}: {', '.join(fields)}")
    print(f"{found.whole} whole, {len(found.damaged)} damaged, {len(found.disagreements)} disagree, in {where}")
    return ExitCode.HEALTHY if found.sound else ExitCode.UNHEALTHY


@app.command()
def push() -> None:
    """Upload the results that the shared store lacks."""
    from finetune_compat.store.store import Store

    store = Store.configured()
    _shared(store)
    print(f"{store.push()} observations copied to {store.remote}")


def _shared(store: Store) -> Remote:
    from finetune_compat.store.store import SHARED

    if store.remote is None:
        raise CompatError(
            "there is no shared store", where=SHARED, todo="Set it to its URL, such as s3://bucket/compat."
        )
    return store.remote
