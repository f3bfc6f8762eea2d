"""Archives of runs: export, import, and what is refused."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import builders as b
import pytest
from builders import NF4, UNLISTED
from finetune_compat.contract.errors import CompatError, ExitCode
from finetune_compat.contract.plan import PlannedCell
from finetune_compat.results.run_files import judged
from finetune_compat.store import archive, stored_files
from finetune_compat.store.store import Store
from store_builders import compat, planned, recipe_of, seen, store, stored_object


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of one stored cell, with a log and derived files."""
    cell = PlannedCell("sft-peft-config", NF4, (), recipe=recipe_of(seen()))
    path = b.stored(tmp_path / "there" / "20260101T000000Z-abcd", [b.ran(seen())], seen())
    for folder in ("plans", "logs"):
        (path / folder).mkdir()
    (path / "plans" / f"{seen().stack.name}.json").write_text(planned(path, cell).to_json())
    (path / "logs" / f"{seen().stack.name}.txt").write_text("what pytest said")
    (path / "nox.log").write_text("what nox printed")
    (path / "left-out.txt").write_text("trl0.24-py311/sft-full[qwen2-full-gc]@cpu\n")
    (path / "summary.md").write_text("derived")
    stored_files.write(store().root, stored_object())
    return path


@pytest.fixture
def packed(run: Path, tmp_path: Path) -> Path:
    """The run as an archive."""
    assert archive.export(run, store(), tmp_path / "results.tar.gz") == 1
    return tmp_path / "results.tar.gz"


def test_a_run_is_judged_on_another_machine_as_here(packed: Path, run: Path, tmp_path: Path) -> None:
    """Observations are in the archive, derived files are not; stored observations are available there too. Cells that a
    budget left out are missing there too, and the run is not healthy.
    """
    other = Store(tmp_path / "other")
    arrived = archive.take(packed, other, tmp_path / "here")
    assert judged(arrived.run, UNLISTED).left_out == judged(run, UNLISTED).left_out != ()
    assert (arrived.run / "nox.log").read_text() == "what nox printed"
    assert (arrived.run, arrived.already, arrived.objects) == (tmp_path / "here" / run.name, False, 1)
    assert judged(arrived.run, UNLISTED).verdicts == judged(run, UNLISTED).verdicts
    assert (arrived.run / "logs" / f"{seen().stack.name}.txt").read_text() == "what pytest said"
    assert not (arrived.run / "summary.md").exists()
    assert other.get(stored_object().recipe.address) == seen()


def test_a_damaged_file_is_not_exported(run: Path, tmp_path: Path) -> None:
    """The archive would be refused for it; the run's own line of that cell is included."""
    for found in (store().root / "objects").rglob("*.json"):
        found.write_bytes(found.read_bytes()[:300])
    assert archive.export(run, store(), tmp_path / "results.tar.gz") == 0
    arrived = archive.take(tmp_path / "results.tar.gz", Store(tmp_path / "other"), tmp_path / "here")
    assert judged(arrived.run, UNLISTED).verdicts == judged(run, UNLISTED).verdicts


def test_an_archive_has_the_command_that_repeats_it(packed: Path) -> None:
    """The archive has the lock, and exactly the selected cells."""
    with tarfile.open(packed) as file:
        names = file.getnames()
        repro = file.extractfile("repro.txt")
        assert repro is not None
        assert repro.read().decode() == (
            "# In a checkout of finetune-compat 0.1.0, with FROM the folder this file was unpacked into:\n"
            "nox -s \"compat-3.11(trl='0.24')\" -- --device cpu --steps 10 --attention sdpa"
            ' --cells "$FROM/cells/trl0.24-py311.txt"\n'
        )
        cells = file.extractfile("cells/trl0.24-py311.txt")
        assert cells is not None and cells.read().decode() == f"{seen().cell}\n"
    assert "locks/trl0.24-py311.txt" in names


def test_an_existing_run_is_imported_once(packed: Path, tmp_path: Path) -> None:
    """A second import changes nothing."""
    other = Store(tmp_path / "other")
    archive.take(packed, other, tmp_path / "here")
    again = archive.take(packed, other, tmp_path / "here")
    assert (again.already, again.objects) == (True, 0)


def test_another_run_of_that_name_is_not_overwritten(packed: Path, run: Path, tmp_path: Path) -> None:
    """Nothing of the archive is written."""
    there = tmp_path / "here" / run.name
    there.mkdir(parents=True)
    (there / "observations.jsonl").write_text("")
    other = Store(tmp_path / "other")
    with pytest.raises(CompatError) as raised:
        archive.take(packed, other, tmp_path / "here")
    assert str(raised.value) == (
        f"{packed}: a run called {run.name} already exists, with other contents\n"
        "The run was continued after the export, on this machine or on the other.\n"
        f"Rename {there} and import again."
    )
    assert stored_files.names(other.root) == {}


def repacked(source: Path, change: Callable[[dict[str, bytes]], object], *, honest: bool) -> None:
    """Change the files of an archive; `honest` updates their digests, as an attacker would."""
    import hashlib

    with tarfile.open(source) as file:
        files = {member.name: (file.extractfile(member) or io.BytesIO()).read() for member in file}
    change(files)
    if honest:
        manifest = json.loads(files.pop("manifest.json"))
        manifest["files"] = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        files = {"manifest.json": json.dumps(manifest).encode(), **files}
    with tarfile.open(source, "w:gz") as file:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))


def renamed(files: dict[str, bytes], new: str) -> None:
    """Rename the run's observations."""
    files[new] = files.pop("run/observations.jsonl")


def damaged(files: dict[str, bytes]) -> None:
    """Truncate a stored observation."""
    name = next(name for name in files if name.startswith("objects/"))
    files[name] = files[name][:-9]


def in_manifest(files: dict[str, bytes], **changes: object) -> None:
    """Change fields of the manifest."""
    files["manifest.json"] = json.dumps({**json.loads(files["manifest.json"]), **changes}).encode()


@pytest.mark.parametrize(
    ("change", "honest", "problem"),
    [
        (damaged, False, "OBJECT differs from the exported file (1 such files in all)"),
        (
            lambda files: files.update({"run/x": b""}),
            False,
            "it has a file that `compat store export` does not write: 'run/x'",
        ),
        (lambda files: files.pop("repro.txt"), False, "repro.txt differs from the exported file (1 such files in all)"),
        (damaged, True, "a cached observation in it is damaged: its content does not match the digest in its name"),
        (
            lambda files: renamed(files, "run/../../x"),
            True,
            "it has a file that `compat store export` does not write: 'run/../../x'",
        ),
        (
            lambda files: renamed(files, "/etc/x"),
            True,
            "it has a file that `compat store export` does not write: '/etc/x'",
        ),
        (
            lambda files: renamed(files, "bin/x"),
            True,
            "it has a file that `compat store export` does not write: 'bin/x'",
        ),
        (lambda files: in_manifest(files, run="../x"), True, "'../x' is not a valid name of a run"),
        (
            lambda files: in_manifest(files, format="2"),
            True,
            "its format is '2', this harness reads 'finetune-compat-results-1'",
        ),
        (lambda files: files.pop("manifest.json"), False, "it has no 'manifest.json'"),
        (
            lambda files: files.update({"run/observations.jsonl": b"{}\n"}),
            True,
            "its run cannot be read: schema None, this harness reads 1",
        ),
    ],
)
def test_a_damaged_or_foreign_file_is_refused_whole(
    packed: Path, tmp_path: Path, change: Callable[[dict[str, bytes]], object], honest: bool, problem: str
) -> None:
    """Nothing is written into the store or the runs."""
    repacked(packed, change, honest=honest)
    other = Store(tmp_path / "other")
    with pytest.raises(CompatError) as raised:
        archive.take(packed, other, tmp_path / "here")
    with tarfile.open(packed) as file:
        kept_one = next(name for name in file.getnames() if name.startswith("objects/"))
    assert str(raised.value) == (
        f"{packed}: not imported: {problem.replace('OBJECT', kept_one)}\n"
        "The file was truncated or changed, or `compat store export` did not write it. Nothing was written.\n"
        "Copy it again, or export it again."
    )
    assert not other.root.exists() and not (tmp_path / "here").exists()


def members(source: Path, *more: tarfile.TarInfo) -> None:
    """Add members to an archive; files get correct entries in the manifest."""
    repacked(source, lambda files: files.update({one.name: b"" for one in more if one.isfile()}), honest=True)
    with tarfile.open(source) as file:
        files = [(member, (file.extractfile(member) or io.BytesIO()).read()) for member in file]
    with tarfile.open(source, "w:gz") as file:
        for member, content in files:
            file.addfile(member, io.BytesIO(content))
        for member in more:
            if not member.isfile():
                file.addfile(member)


def member(name: str, kind: bytes = tarfile.REGTYPE, to: str = "") -> tarfile.TarInfo:
    """Make a member of an archive."""
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, to
    return made


def everything_below(place: Path) -> dict[str, bytes]:
    """Return name and content of every file."""
    return {str(path): path.read_bytes() for path in place.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "name",
    [
        *("run//abs/path", "run/../x", "run/rows/../../../x.json", "run/rows//x.json", "run/rows/a/b.json"),
        *("run/rows/..json", "run/rows/.json", "run/rows/a\\b.json", "run/rows/C:x.json", "run/rows/x.txt"),
        *("", ".", "..", "/", "run", "run/", "run/.", "run/./nox.log", "./run/nox.log", "run/x", "run/summary.md"),
        *("run/scratch/x.held", "run/report.html", "run/latest", "run/.lock", "locks/../x.txt", "cells//x.txt"),
        *("objects/x", "objects/../x.json", "repro.txt/x", "manifest.json/x"),
    ],
)
def test_an_archive_holds_files_of_a_run_by_their_exact_names(packed: Path, tmp_path: Path, name: str) -> None:
    """Other files are refused even with correct digests, and nothing is written."""
    members(packed, member(name))
    before = everything_below(tmp_path)
    with pytest.raises(CompatError) as raised:
        archive.take(packed, Store(tmp_path / "other"), tmp_path / "here" / "runs")
    assert raised.value.what == f"not imported: it has a file that `compat store export` does not write: {name!r}"
    assert raised.value.exit_code is ExitCode.BAD_INPUT
    assert everything_below(tmp_path) == before


@pytest.mark.parametrize("name", ["run/nox2.log", "run/nox.log", "run/rows", "./", ".", "run/rows/trl0.1-py311.json"])
@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
)
def test_links_devices_and_folders_are_refused(packed: Path, tmp_path: Path, name: str, kind: bytes) -> None:
    """They could point outside, or have no content that a digest could cover."""
    members(packed, member(name, kind, "/etc/passwd"))
    with pytest.raises(CompatError) as raised:
        archive.take(packed, Store(tmp_path / "other"), tmp_path / "here")
    assert raised.value.what.startswith("not imported: it has ")
    assert not (tmp_path / "here").exists() and not (tmp_path / "other").exists()


def test_a_duplicate_file_is_refused(packed: Path, tmp_path: Path) -> None:
    """Programs differ in which one they use."""
    with tarfile.open(packed) as file:
        files = [(one, (file.extractfile(one) or io.BytesIO()).read()) for one in file]
    with tarfile.open(packed, "w:gz") as file:
        for one, content in (*files, files[-1]):
            file.addfile(one, io.BytesIO(content))
    with pytest.raises(CompatError, match="it has two files called 'objects/"):
        archive.take(packed, Store(tmp_path / "other"), tmp_path / "here")


@pytest.mark.parametrize("run_id", ["latest", ".lock", ".answers", "", ".", "..", "a/b", "/x", "a\n", 5, None, ["a"]])
def test_an_archive_with_a_reserved_run_name_is_refused(packed: Path, tmp_path: Path, run_id: object) -> None:
    """A run named `latest` would replace the link to the newest run."""
    repacked(packed, lambda files: in_manifest(files, run=run_id), honest=True)
    with pytest.raises(CompatError) as raised:
        archive.take(packed, Store(tmp_path / "other"), tmp_path / "here")
    assert raised.value.what == f"not imported: {run_id!r} is not a valid name of a run"
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize(
    "manifest",
    [
        *(b"[]", b"5", b"null", b'"x"', b"", b"\xff", b"[" * 100_000, b'{"format": []}', b"{}", b'{"format": 1e999}'),
        *(b'{"format": "finetune-compat-results-1"}', b'{"format": "finetune-compat-results-1", "files": []}'),
        *(b'{"format": "finetune-compat-results-1", "files": {}, "run": "x"}',),
    ],
)
def test_an_invalid_manifest_is_one_message(packed: Path, tmp_path: Path, manifest: bytes) -> None:
    """No traceback is printed."""
    repacked(packed, lambda files: files.update({"manifest.json": manifest}), honest=False)
    with pytest.raises(CompatError, match="not imported: ") as raised:
        archive.take(packed, Store(tmp_path / "other"), tmp_path / "here")
    assert raised.value.exit_code is ExitCode.BAD_INPUT and not (tmp_path / "here").exists()


@pytest.mark.parametrize(
    ("file", "text", "problem"),
    [
        ("rows/trl0.24-py311.json", '{"name": "../../x"}', None),
        ("rows/other-py311.json", None, "is the row of the stack 'trl0.24-py311', but has another name"),
        ("stored.json", "[]", "Input should be an object"),
        ("stored.json", "{", None),
    ],
)
def test_a_run_that_an_archive_brings_can_be_read(
    packed: Path, tmp_path: Path, file: str, text: str | None, problem: str | None
) -> None:
    """A row with an invalid name is not a row."""

    def change(files: dict[str, bytes]) -> None:
        row = files["run/rows/trl0.24-py311.json"]
        there = json.loads(row) | json.loads(text) if text and file.startswith("rows/") else None
        files[f"run/{file}"] = json.dumps(there).encode() if there else text.encode() if text else row

    repacked(packed, change, honest=True)
    with pytest.raises(CompatError, match="not imported: its run cannot be read: ") as raised:
        archive.take(packed, Store(tmp_path / "other"), tmp_path / "here")
    assert problem is None or problem in raised.value.what
    assert not (tmp_path / "here").exists()


def test_an_export_reads_no_file_that_a_plan_names(run: Path, tmp_path: Path) -> None:
    """A plan may come from another machine; its stack's name could point to any text file."""
    plan = run / "plans" / f"{seen().stack.name}.json"
    plan.write_text(plan.read_text().replace(f'"stack": "{seen().stack.name}"', '"stack": "../../../secret"', 1))
    with pytest.raises(CompatError) as raised:
        archive.export(run, store(), tmp_path / "results.tar.gz")
    assert str(raised.value) == (
        f"{plan}: it is of a stack called '../../../secret'\n"
        "It was edited, or another version of the harness wrote it.\n"
        "Run the stack again, or export the run with the harness version that wrote it."
    )
    plan.write_text("[]")
    with pytest.raises(CompatError, match="it is not a valid plan: "):
        archive.export(run, store(), tmp_path / "results.tar.gz")


def test_a_partial_file_is_not_exported(run: Path, tmp_path: Path) -> None:
    """An import would refuse it."""
    (run / "rows" / ".trl0.24-py311.json.a1b2c3").write_text("{")
    (run / "logs" / "deeper").mkdir()
    (run / "logs" / "deeper" / "x.txt").write_text("")
    archive.export(run, store(), tmp_path / "results.tar.gz")
    assert archive.take(tmp_path / "results.tar.gz", Store(tmp_path / "other"), tmp_path / "here").objects == 1


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "empty file"),
        (b"not a tar", "Not a gzipped file (b'no')"),
        # The time would give the example another name in each process.
        (gzip.compress(b"not a tar", mtime=0), "truncated header"),
    ],
)
def test_an_invalid_archive_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    """This holds for any file."""
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(CompatError) as raised:
        archive.take(tmp_path / "x", store(), tmp_path / "here")
    assert str(raised.value) == (
        f"{tmp_path}/x: not imported: it cannot be read: {problem}\n"
        "The file was truncated or changed, or `compat store export` did not write it. Nothing was written.\n"
        "Copy it again, or export it again."
    )


@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_a_truncated_archive_is_refused(packed: Path, tmp_path: Path, share: float) -> None:
    """This holds for any length."""
    content = packed.read_bytes()
    packed.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CompatError, match="not imported: "):
        archive.take(packed, Store(tmp_path / "other"), tmp_path / "here")
    assert not (tmp_path / "here").exists()


def test_an_archive_is_never_overwritten_or_half_written(run: Path, tmp_path: Path) -> None:
    """The same holds for a folder that is no run."""
    (tmp_path / "x").write_text("mine")
    for source, target, said in (
        (run, "x", f"{tmp_path}/x: the file already exists\nName another file, or remove this one."),
        (tmp_path, "y", f"{tmp_path}: this is not a run\nName a run below reports/runs, or `latest`."),
        (run, "none/y", f"{tmp_path}/none: there is no such folder\nMake it, or name another."),
    ):
        with pytest.raises(CompatError) as raised:
            archive.export(source, store(), tmp_path / target)
        assert str(raised.value) == said
    assert (tmp_path / "x").read_text() == "mine" and not (tmp_path / "y").exists()


def test_the_export_and_import_commands(
    run: Path, tmp_path: Path, in_places: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each prints what it did and what to do next."""
    target = tmp_path / "out.tar.gz"
    assert compat("export", str(target), "--run", str(run)) == 0
    size = target.stat().st_size / 1e6
    assert capsys.readouterr().out == f"{target}: run {run.name}, 1 cached observations, {size:.1f} MB\n"
    in_places(runs=tmp_path / "runs", store=tmp_path / "other")
    assert compat("import", str(target)) == 0
    assert capsys.readouterr().out == (
        f"run {run.name} imported, 1 cached observations are new\njudge it: compat report {run.name}\n"
    )
    assert compat("import", str(tmp_path / "nowhere")) == ExitCode.BAD_INPUT
    assert capsys.readouterr().err == (
        f"{tmp_path}/nowhere: there is no such file\nName what `compat store export` wrote.\n"
    )
