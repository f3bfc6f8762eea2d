"""Publishing a run: derived files are complete, `latest` links to the run, and a stored run can be judged again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import builders as b
import pytest
from builders import FULL, LISTED, UNLISTED, frozen, healthy, on_trl, ran, stored
from finetune_compat import report
from finetune_compat.checks.ledger import Ledger
from finetune_compat.contract.errors import CompatError, ExitCode, RecordsError, UnknownName
from finetune_compat.report import derive, publish, report_command
from finetune_compat.results import run_files
from finetune_compat.results.run_files import read_observations
from report_builders import at

SEEN = frozen(healthy(stack="trl0.22-py311", versions=on_trl("0.22.2")))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A directory of runs with one run."""
    stored(tmp_path / "runs" / "one", [ran(SEEN)], SEEN)
    return tmp_path / "runs"


def test_publishing_writes_the_derived_files_and_nothing_else(runs: Path) -> None:
    """There are four files, besides the cells' and the lock."""
    before = {path.name for path in (runs / "one").iterdir()}
    summary = publish(runs / "one", LISTED)
    after = {path.name for path in (runs / "one").iterdir()}
    assert after - before == {"verdicts.jsonl", "junit.xml", "summary.md", "report.html", ".lock"}
    assert summary.exit_code is ExitCode.HEALTHY


def test_two_cores_write_what_one_writes(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are equal byte for byte; the report names their directory."""
    names = ("trl0.21-py311", "trl0.22-py311", "trl0.23-py311")
    seen = [frozen(healthy(stack=name, versions=on_trl("0.22.2"))) for name in names]
    found = []
    for place, many in (("alone", 10**9), ("shared", 0)):
        stored(runs / place / "run", [ran(each) for each in seen], *seen)
        for module in (report, run_files):
            monkeypatch.setattr(module, "MANY", many)
        publish(runs / place / "run", LISTED)
        files = ("verdicts.jsonl", "junit.xml", "summary.md", "report.html")
        texts = [(runs / place / "run" / file).read_text() for file in files]
        found.append([text.replace(f"/{place}/", "/") for text in texts])
    assert found[0] == found[1]
    assert [line.partition("/")[0] for line in found[0][0].splitlines()] == [f'{{"cell":"{name}' for name in names]


def test_one_core_reads_a_run_once(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Judging a part in another process reads it again."""
    reads: list[Path] = []

    def read(path: Path, **options: Any) -> Any:
        reads.append(path)
        return read_observations(path, **options)

    monkeypatch.setattr(run_files, "MANY", 0)
    monkeypatch.setattr(run_files, "read_observations", read)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    derive(runs / "one", LISTED)
    assert reads == [runs / "one" / "observations.jsonl"]


def test_latest_links_to_the_run_published_last(runs: Path) -> None:
    """The link is relative, so that the directory can be moved; no other file remains."""
    stored(runs / "two", [ran(SEEN)], SEEN)
    publish(runs / "one", LISTED)
    publish(runs / "two", LISTED)
    assert (runs / "latest").readlink() == Path("two")
    publish(runs / "latest" / ".." / "one", LISTED)
    assert (runs / "latest").readlink() == Path("one")
    assert sorted(path.name for path in runs.iterdir()) == ["latest", "one", "two"]


def test_publishing_latest_does_not_link_it_to_itself(runs: Path) -> None:
    """The link is resolved first."""
    publish(runs / "one", LISTED)
    publish(runs / "latest", LISTED)
    assert (runs / "latest").resolve() == runs / "one"


def judged_with(monkeypatch: pytest.MonkeyPatch, ledger: Ledger) -> None:
    """Use today's ledger."""
    monkeypatch.setattr("finetune_compat.report.load_ledger", lambda: ledger)


def test_a_stored_run_is_judged_again_with_todays_ledger(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code, verdicts and output follow it; `latest` is unchanged."""
    stored(runs / "two", [ran(SEEN)], SEEN)
    publish(runs / "two", LISTED)
    for ledger, code, outcome in ((LISTED, ExitCode.HEALTHY, "xfail"), (UNLISTED, ExitCode.UNHEALTHY, "fail")):
        judged_with(monkeypatch, ledger)
        assert report_command("one", runs) is code
        assert json.loads((runs / "one" / "verdicts.jsonl").read_text(encoding="utf-8"))["outcome"] == outcome
        assert " FAIL" in capsys.readouterr().out
    assert (runs / "latest").readlink() == Path("two")


def test_an_unknown_run_has_one_message(runs: Path) -> None:
    """No traceback is printed."""
    with pytest.raises(UnknownName) as raised:
        report_command("three", runs)
    assert str(raised.value) == (
        f"{runs}: there is no run 'three'\nThe run was never made on this machine, or its directory was removed.\n"
        "The newest are: one. A run is made by: compat run trl0.22"
    )


def test_a_directory_that_is_no_run_is_unchanged(tmp_path: Path) -> None:
    """No file is written into it."""
    (tmp_path / "home").mkdir()
    with pytest.raises(RecordsError, match="this directory holds no run"):
        report_command(str(tmp_path / "home"), tmp_path)
    assert list((tmp_path / "home").iterdir()) == []


def test_a_run_without_cells_could_not_tell(tmp_path: Path) -> None:
    """It is published all the same."""
    run = stored(tmp_path / "runs" / "empty", [b.uninstallable("trl0.4-py311")])
    assert publish(run, LISTED).exit_code is ExitCode.COULD_NOT_TELL
    assert "Could not tell: no cell ran." in (run / "summary.md").read_text(encoding="utf-8")


def test_requested_cells_are_on_a_separate_page(tmp_path: Path) -> None:
    """Healthy cells are included, and the page of the run is unchanged."""
    seen = at(variant=FULL)
    run = b.stored(tmp_path / "run", [ran(seen)], seen)
    page = tmp_path / "cells.html"
    assert report_command(str(run), tmp_path, page=page, cells="*sft-peft-model[qwen2-full*") is ExitCode.HEALTHY
    assert "Raw observation" in page.read_text(encoding="utf-8")
    assert "Raw observation" not in (run / "report.html").read_text(encoding="utf-8")


def test_a_pattern_that_finds_nothing_is_an_error(tmp_path: Path) -> None:
    """No empty page is written."""
    seen = at()
    run = b.stored(tmp_path / "run", [ran(seen)], seen)
    with pytest.raises(UnknownName) as caught:
        report_command(str(run), tmp_path, page=tmp_path / "cells.html", cells="trl9*")
    assert str(caught.value) == (
        "--cells: no cell of this run matches 'trl9*'\n"
        "A cell's id is stack/flow[variant]@device. * matches any text; no other character is special.\n"
        "Write it like this: --cells 'trl0.22-py311/sft-peft-model[*]@cpu'"
    )
    assert not (tmp_path / "cells.html").exists()
    assert isinstance(caught.value, CompatError)
