"""A run in one file, to copy it to another machine: observations, locks, logs, and commands that repeat it. Host side.

    manifest.json           format, run, and the sha256 of every file below
    run/...                 of the run, if present: observations.jsonl, left-out.txt, stored.json, nox.log, rows/,
                            plans/, selected/, logs/ and unkept/
    locks/<stack>.txt       the lock of each stack
    objects/<2 hex>/...     the cached observations of the run's cells
    cells/<stack>.txt       the selected cells
    repro.txt               the commands that run these cells again, one per stack

An archive is imported completely or not at all: all its contents are checked before anything is written. It may contain
only the files above, with exactly these names. Links, devices and folders are refused.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import tarfile
import tempfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.contract.errors import CompatError, RecordsError, why
from finetune_compat.contract.names import is_run_id, is_stack
from finetune_compat.contract.plan import Plan, read_plan
from finetune_compat.contract.records import DeviceKind
from finetune_compat.contract.version import __version__
from finetune_compat.machine import foreign
from finetune_compat.machine.files import making, replacing
from finetune_compat.machine.places import places
from finetune_compat.results.run_files import read_addresses, read_left_out, read_observations, read_rows
from finetune_compat.stacks.matrix import session_of
from finetune_compat.store import stored_files
from finetune_compat.store.store import Store
from finetune_compat.store.stored_files import Damaged

FORMAT = "finetune-compat-results-1"

_MANIFEST = "manifest.json"
_REPRO = "repro.txt"
_CELLS = "cells"

_FILES = ("observations.jsonl", "left-out.txt", "stored.json", "nox.log")
_OF_STACKS = {"rows": ".json", "plans": ".json", "selected": ".txt", "logs": ".txt", "unkept": ".txt"}
"""Folders of a run with one file per stack, and the suffix of the files. Together with `_FILES` these are all facts of
a run; the other files are derived from them.
"""

_FOLDERS = {**{f"run/{folder}": ending for folder, ending in _OF_STACKS.items()}, "locks": ".txt", _CELLS: ".txt"}
"""Folders of an archive with one file per stack, and the suffix of the files."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """The result of an import."""

    run: Path
    already: bool
    """Whether the run already existed."""
    objects: int
    """Number of cached observations that the store did not have."""


def export(run: Path, store: Store, target: Path) -> int:
    """Write a run and the cached observations of its cells to `target`, a tar.gz; return the number of observations.

    Raises:
        CompatError: `target` exists, its folder does not exist, or `run` is not a run.
        OSError: `target` cannot be written.
    """
    if target.exists():
        raise CompatError("the file already exists", where=str(target), todo="Name another file, or remove this one.")
    if not target.absolute().parent.is_dir():
        raise CompatError("there is no such folder", where=str(target.parent), todo="Make it, or name another.")
    if not (run / "rows").is_dir():
        raise CompatError("this is not a run", where=str(run), todo="Name a run below reports/runs, or `latest`.")
    files = dict(_files_of(run, store))
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    manifest = {"format": FORMAT, "harness": __version__, "run": run.name, "files": digests}
    with replacing(target) as part, tarfile.open(part, "w:gz") as archive:
        for name, content in {_MANIFEST: json.dumps(manifest, indent=1).encode(), **files}.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            archive.addfile(member, io.BytesIO(content))
    return sum(name.startswith(f"{stored_files.OBJECTS}/") for name in files)


def _files_of(run: Path, store: Store) -> Iterator[tuple[str, bytes]]:
    for path in sorted(
        (*(run / name for name in _FILES), *(path for name in _OF_STACKS for path in run.glob(f"{name}/*")))
    ):
        # An interrupted write leaves a temporary file with another name.
        if path.is_file() and _is_member(name := f"run/{path.relative_to(run).as_posix()}"):
            yield name, path.read_bytes()
    plans = {plan.stack: plan for plan in map(_plan, sorted((run / "plans").glob("*.json")))}
    rows = read_rows(run)
    selected = {cell for row in rows for cell in row.selected}
    devices = {cell.stack: cell.device for cell in map(parse_cell, sorted(selected)) if cell.device}
    for name in sorted({row.name for row in rows} | plans.keys()):
        suffixes = ("", "-cuda") if devices.get(name) is DeviceKind.CUDA else ("",)
        for lock in (places().locks / f"{name}{suffix}.txt" for suffix in suffixes):
            if lock.is_file():
                yield f"locks/{lock.name}", lock.read_bytes()
    for row in rows:
        if row.selected:
            yield f"{_CELLS}/{row.name}.txt", "".join(f"{cell}\n" for cell in row.selected).encode()
    # A stack whose cells were all cached has no plan, because its session never started.
    stored = {name: f"--device {kind}" for name, kind in devices.items() if name not in plans}
    options = {name: _options(plan) for name, plan in plans.items()} | stored
    yield _REPRO, _repro(options, {row.name for row in rows if row.selected}).encode()
    addresses = read_addresses(run) | {
        plan.id_of(cell): cell.recipe.address for plan in plans.values() for cell in plan.cells if cell.recipe
    }
    wanted = [address for cell, address in addresses.items() if cell in selected]
    for address, names in sorted(stored_files.names(store.root, wanted).items()):
        for name in sorted(names):
            content = stored_files.path_of(store.root, name).read_bytes()
            # Leave out damaged files, with which the import refuses the archive. `compat store verify` lists them.
            with contextlib.suppress(Damaged):
                stored_files.parsed(name, content)
                yield f"{stored_files.OBJECTS}/{address[:2]}/{name}", content


def _is_member(name: str) -> bool:
    """Whether `name` is the name of a file that `export` writes."""
    folder, _, file = name.rpartition("/")
    if folder == "run" and file in _FILES:
        return True
    if folder == f"{stored_files.OBJECTS}/{file[:2]}":
        return stored_files.is_name(file)
    ending = _FOLDERS.get(folder)
    return name == _REPRO or (ending is not None and file.endswith(ending) and is_stack(file.removesuffix(ending)))


def _plan(path: Path) -> Plan:
    """The plan in `path`. It is validated, because it may come from another machine and its names become paths.

    Raises:
        RecordsError: it is not a valid plan, or its stack is not the one in the file's name.
    """
    try:
        plan = read_plan(path)
        problem = "" if plan.stack == path.stem and is_stack(plan.stack) else f"is of a stack called {plan.stack!r}"
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        problem = f"is not a valid plan: {why(error)}"
    if problem:
        raise RecordsError(
            f"it {problem}",
            where=str(path),
            meaning="It was edited, or another version of the harness wrote it.",
            todo="Run the stack again, or export the run with the harness version that wrote it.",
        )
    return plan


def _repro(options: Mapping[str, str], with_cells: Collection[str]) -> str:
    """The commands and the directory to run them in. Paths use $FROM, because nox runs in the checkout."""
    lines = [f"# In a checkout of finetune-compat {__version__}, with FROM the folder this file was unpacked into:"]
    for name, given in options.items():
        cells = f' --cells "$FROM/{_CELLS}/{name}.txt"' if name in with_cells else ""
        lines.append(f'nox -s "{session_of(name) or name}" -- {given}{cells}')
    return "".join(f"{line}\n" for line in lines)


def _options(plan: Plan) -> str:
    options = [f"--device {plan.device}", f"--steps {plan.steps}", f"--attention {plan.attention}"]
    options += ["--base-torch"] if plan.base_torch else []
    options += ["--tier deep"] if any(cell.deep for cell in plan.cells) else []
    options += [f"--model {plan.model}"] if plan.model else []
    return " ".join(options)


def take(source: Path, store: Store, runs: Path | None = None) -> Arrived:
    """Import an archive: its cached observations into `store`, its run into `runs`.

    Raises:
        CompatError: it is not a valid archive, is damaged, or another run of that name exists. Nothing is written then.
    """
    name, files = _checked(source)
    run = (runs or places().runs) / name
    own = {name.removeprefix("run/"): content for name, content in files.items() if name.startswith("run/")}
    already = run.exists()
    if already and any(not (run / name).is_file() or (run / name).read_bytes() != own[name] for name in own):
        raise CompatError(
            f"a run called {run.name} already exists, with other contents",
            where=str(source),
            meaning="The run was continued after the export, on this machine or on the other.",
            todo=f"Rename {run} and import again.",
        )
    kept = {PurePosixPath(name).name: content for name, content in files.items() if name.startswith("objects/")}
    new = {name: content for name, content in kept.items() if not stored_files.path_of(store.root, name).exists()}
    for name, content in new.items():
        stored_files.write_content(store.root, name, content)
    if not already:
        _write_run(run, own)
    return Arrived(run, already, len(new))


def _write_run(run: Path, files: Mapping[str, bytes]) -> None:
    with making(run) as part:
        for name, content in files.items():
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            (part / name).write_bytes(content)


def _checked(source: Path) -> tuple[str, dict[str, bytes]]:
    """The name of the run, and the files of the archive. Raises a CompatError unless all of it is valid."""
    try:
        files = foreign.members(source, lambda name: name == _MANIFEST or _is_member(name), "`compat store export`")
        manifest = foreign.parsed(files.pop(_MANIFEST))
        _refuse_other_contents(source, manifest, files)
        _refuse_unreadable_run(files)
    except FileNotFoundError:
        raise CompatError(
            "there is no such file", where=str(source), todo="Name what `compat store export` wrote."
        ) from None
    except KeyError as missing:
        raise _refused(source, f"it has no {missing}") from None
    except foreign.Refused as refusal:
        raise _refused(source, str(refusal)) from None
    except _UNREADABLE as error:
        if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
            raise
        raise _refused(source, f"it cannot be read: {why(error)}") from None
    except Damaged as damage:
        raise _refused(source, f"a cached observation in it is damaged: {damage}") from None
    except RecordsError as error:
        raise _refused(source, f"its run cannot be read: {error.what}") from None
    return str(manifest["run"]), files


def _refuse_other_contents(source: Path, manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """Refuse files that are not those of the manifest, and cached observations that are damaged."""
    if manifest["format"] != FORMAT:
        raise _refused(source, f"its format is {manifest['format']!r}, this harness reads {FORMAT!r}")
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    wrong = sorted(
        name for name in digests.keys() | manifest["files"].keys() if digests.get(name) != manifest["files"].get(name)
    )
    if wrong:
        raise _refused(source, f"{wrong[0]} differs from the exported file ({len(wrong)} such files in all)")
    if not is_run_id(manifest["run"]):
        raise _refused(source, f"{manifest['run']!r} is not a valid name of a run")
    for name, content in files.items():
        if name.startswith(f"{stored_files.OBJECTS}/"):
            stored_files.parsed(PurePosixPath(name).name, content)


_UNREADABLE = (
    *(tarfile.TarError, OSError, EOFError, zlib.error),
    *(TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RecursionError),
)
"""Exceptions from reading a file that is not an archive, or is malicious."""


_OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EIO)
"""Errors that say nothing about the archive. Its run is written to a temporary directory to be read."""


def _refuse_unreadable_run(files: Mapping[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        for name, content in files.items():
            if name.startswith("run/"):
                path = Path(scratch, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        run = Path(scratch, "run")
        read_rows(run)
        read_observations(run / "observations.jsonl")
        read_left_out(run)
        read_addresses(run)


def _refused(source: Path, problem: str) -> CompatError:
    return CompatError(
        f"not imported: {problem}",
        where=str(source),
        meaning="The file was truncated or changed, or `compat store export` did not write it. Nothing was written.",
        todo="Copy it again, or export it again.",
    )
