"""One file that takes a run to another machine: observations, locks, logs, and how to run it again. Host side.

    manifest.json           format, run, and the sha256 of every file below
    run/...                 observations.jsonl, left-out.txt, stored.json, nox.log, rows/, plans/, selected/, logs/ and
                            unkept/ of the run, those that it has
    locks/<stack>.txt       what each stack was resolved to
    objects/<2 hex>/...     the kept observations of the run's cells
    cells/<stack>.txt       which cells were selected
    repro.txt               the command that runs them again, a stack each

An archive is taken whole or not at all: everything in it is checked before anything is written.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from finetune_compat.contract.errors import CompatError, RecordsError, why
from finetune_compat.contract.plan import Plan, read_plan
from finetune_compat.contract.records import DeviceKind
from finetune_compat.contract.version import __version__
from finetune_compat.results.run_files import RUNS, read_addresses, read_observations, read_rows
from finetune_compat.stacks.locks import LOCKS
from finetune_compat.stacks.matrix import session_of
from finetune_compat.store import stored_files
from finetune_compat.store.store import Store
from finetune_compat.store.stored_files import Damaged

FORMAT = "finetune-compat-results-1"

_MANIFEST = "manifest.json"
_TAKEN = (
    *("observations.jsonl", "left-out.txt", "stored.json", "nox.log"),
    *("rows", "plans", "selected", "logs", "unkept"),
)
"""What of a run is facts; the rest is derived again."""

_CELLS = "cells"

_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Arrived:
    """What an archive brought."""

    run: Path
    already: bool
    """Whether the run was here before."""
    objects: int
    """Kept observations that were not here before."""


def export(run: Path, store: Store, target: Path) -> int:
    """Write the run and the kept observations of its cells into `target`, a tar.gz, and return how many those are.

    Raises:
        CompatError: `target` is there already, or its folder is not, or `run` holds no run.
        OSError: it cannot be written.
    """
    if target.exists():
        raise CompatError("there is such a file already", where=str(target), todo="Name another, or remove it.")
    if not target.absolute().parent.is_dir():
        raise CompatError("there is no such folder", where=str(target.parent), todo="Make it, or name another.")
    if not (run / "rows").is_dir():
        raise CompatError("this is not a run", where=str(run), todo="Name a run below reports/runs, or `latest`.")
    files = dict(_files_of(run, store))
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    manifest = {"format": FORMAT, "harness": __version__, "run": run.name, "files": digests}
    with _replacing(target) as part, tarfile.open(part, "w:gz") as archive:
        for name, content in {_MANIFEST: json.dumps(manifest, indent=1).encode(), **files}.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            archive.addfile(member, io.BytesIO(content))
    return sum(name.startswith(f"{stored_files.OBJECTS}/") for name in files)


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """A file beside `target` that takes its place when all has been written."""
    part = target.with_name(f".{target.name}.part")
    try:
        yield part
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _files_of(run: Path, store: Store) -> Iterator[tuple[str, bytes]]:
    for path in sorted(path for name in _TAKEN for path in (run / name, *(run / name).rglob("*"))):
        if path.is_file():
            yield f"run/{path.relative_to(run).as_posix()}", path.read_bytes()
    plans = {plan.stack: plan for plan in map(read_plan, sorted((run / "plans").glob("*.json")))}
    rows = read_rows(run)
    selected = {cell for row in rows for cell in row.selected}
    devices = {cell.partition("/")[0]: DeviceKind(cell.rpartition("@")[2]) for cell in sorted(selected)}
    for name in sorted({row.name for row in rows} | plans.keys()):
        suffixes = ("", "-cuda") if devices.get(name) is DeviceKind.CUDA else ("",)
        for lock in (LOCKS / f"{name}{suffix}.txt" for suffix in suffixes):
            if lock.is_file():
                yield f"locks/{lock.name}", lock.read_bytes()
    for row in rows:
        if row.selected:
            yield f"{_CELLS}/{row.name}.txt", "".join(f"{cell}\n" for cell in row.selected).encode()
    # A stack whose cells were all stored has no plan: no session of it began.
    stored = {name: f"--device {kind}" for name, kind in devices.items() if name not in plans}
    options = {name: _options(plan) for name, plan in plans.items()} | stored
    yield "repro.txt", _repro(options, {row.name for row in rows if row.selected}).encode()
    addresses = read_addresses(run) | {
        plan.id_of(cell): cell.recipe.address for plan in plans.values() for cell in plan.cells if cell.recipe
    }
    wanted = [address for cell, address in addresses.items() if cell in selected]
    for address, names in sorted(stored_files.names(store.root, wanted).items()):
        for name in sorted(names):
            content = stored_files.path_of(store.root, name).read_bytes()
            # One damaged file here would have the whole archive refused there; `compat store verify` names it.
            with contextlib.suppress(Damaged):
                stored_files.parsed(name, content)
                yield f"{stored_files.OBJECTS}/{address[:2]}/{name}", content


def _repro(options: Mapping[str, str], with_cells: Collection[str]) -> str:
    """The commands, and where they are to be typed: nox runs in its checkout, so that files need whole names."""
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


def take(source: Path, store: Store, runs: Path = RUNS) -> Arrived:
    """Put the archive's kept observations into `store` and its run among `runs`.

    Raises:
        CompatError: it is not such an archive, is damaged, or another run of that name is here. Nothing was written.
    """
    manifest, files = _checked(source)
    run = runs / manifest["run"]
    own = {name.removeprefix("run/"): content for name, content in files.items() if name.startswith("run/")}
    already = run.exists()
    if already and any(not (run / name).is_file() or (run / name).read_bytes() != own[name] for name in own):
        raise CompatError(
            f"another run called {run.name} is here, and it holds other facts",
            where=str(source),
            meaning="The run went on after it was exported, here or there.",
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
    run.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=run.parent, prefix=f".{run.name}."))
    try:
        for name, content in files.items():
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            (part / name).write_bytes(content)
        part.chmod(0o755)
        os.rename(part, run)  # noqa: PTH104 - unlike Path.replace it says what it does with a folder that is there
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _checked(source: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The manifest and the files of an archive in which all is as it should be."""
    try:
        with tarfile.open(source, "r:gz") as archive:
            files = {
                member.name: opened.read()
                for member in archive
                if member.isfile() and (opened := archive.extractfile(member)) is not None
            }
        manifest = json.loads(files.pop(_MANIFEST))
        if manifest["format"] != FORMAT:
            raise _refused(source, f"its format is {manifest['format']!r}, this harness reads {FORMAT!r}")
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        wrong = sorted(
            name
            for name in digests.keys() | manifest["files"].keys()
            if digests.get(name) != manifest["files"].get(name)
        )
        if wrong:
            raise _refused(source, f"{wrong[0]} is not the file that was packed, {len(wrong)} in all")
        _refuse_strange_names(source, str(manifest["run"]), files)
        for name, content in files.items():
            if name.startswith(f"{stored_files.OBJECTS}/"):
                stored_files.parsed(PurePosixPath(name).name, content)
        _refuse_unreadable_run(files)
    except FileNotFoundError:
        raise CompatError(
            "there is no such file", where=str(source), todo="Name what `compat store export` wrote."
        ) from None
    except KeyError as missing:
        raise _refused(source, f"it has no {missing}") from None
    except (tarfile.TarError, OSError, EOFError, zlib.error, TypeError, ValueError, AttributeError) as error:
        raise _refused(source, f"it cannot be read: {why(error)}") from None
    except Damaged as damage:
        raise _refused(source, f"a kept observation in it is damaged: {damage}") from None
    except RecordsError as error:
        raise _refused(source, f"its run cannot be read: {error.what}") from None
    return manifest, files


def _refuse_strange_names(source: Path, run: str, files: Mapping[str, bytes]) -> None:
    """Every name must be one that `export` writes: nothing is ever written outside the store and the run."""
    allowed = ("run", "locks", _CELLS, stored_files.OBJECTS, "repro.txt")
    for name in files:
        parts = PurePosixPath(name).parts
        if ".." in parts or name.startswith("/") or parts[0] not in allowed:
            raise _refused(source, f"it holds a file that is none of ours: {name!r}")
    if not _RUN_NAME.fullmatch(run):
        raise _refused(source, f"{run!r} is no name of a run")


def _refuse_unreadable_run(files: Mapping[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        for name, content in files.items():
            if name.startswith("run/"):
                path = Path(scratch, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        read_rows(Path(scratch, "run"))
        read_observations(Path(scratch, "run", "observations.jsonl"))


def _refused(source: Path, problem: str) -> CompatError:
    return CompatError(
        f"not taken: {problem}",
        where=str(source),
        meaning="It was cut off or changed on its way, or `compat store export` did not write it. Nothing was written.",
        todo="Copy it again, or export it again.",
    )
