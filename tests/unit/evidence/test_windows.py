"""`compat windows`: which releases and cells are measured at an edge, and what their verdicts say about it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from finetune_compat.bisect.probe import Bench, Probe
from finetune_compat.checks.harm import Harm
from finetune_compat.checks.ledger import Issue, Scripted, Signature
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.checks.windows_measured import MeasuredEdge, read_windows
from finetune_compat.contract.errors import UnknownName
from finetune_compat.contract.verdict import Kind, Outcome, Symptom, Verdict
from finetune_compat.evidence import windows
from finetune_compat.evidence.scripted import ScriptBench
from finetune_compat.evidence.windows import cell_of, chosen, edges_among, measure, windows_command
from finetune_compat.gate.resolved import Resolved
from finetune_compat.history.condition import Measured
from finetune_compat.stacks.index import Release
from finetune_compat.stacks.matrix import read_matrix
from packaging.version import Version

LEDGER = load_ledger()
RELEASES = [Version(text) for text in ("0.19.0", "0.19.1", "0.20.0", "0.22.2", "0.23.0", "0.23.1", "1.0.0")]
MATRIX = read_matrix()
SCRIPT = Path(__file__).parents[2] / "exam" / "issues" / "peft_imports.py"


def names(window: str) -> list[str]:
    return [edge.name for edge in edges_among("trl", window, RELEASES)]


class TestEdges:
    @pytest.mark.parametrize(
        ("window", "found"),
        [
            (">=0.20.0,<0.23.1", ["trl>=0.20.0", "trl<0.23.1"]),
            ("<0.20.0", ["trl<0.20.0"]),
            ("<=0.19.1", ["trl<0.20.0"]),
            (">=0.21.0", ["trl>=0.22.2"]),
            ("!=0.23.0", ["trl<0.23.0", "trl>=0.23.1"]),
            ("<2", []),
            (">=2", []),
        ],
    )
    def test_an_edge_is_between_neighbouring_releases(self, window: str, found: list[str]) -> None:
        assert names(window) == found

    def test_it_knows_which_side_is_inside(self) -> None:
        low, high = edges_among("trl", ">=0.20.0,<0.23.1", RELEASES)
        assert (str(low.outside), str(low.inside)) == ("0.19.1", "0.20.0")
        assert (str(high.inside), str(high.outside)) == ("0.23.0", "0.23.1")


class TestCell:
    def test_every_signature_of_the_ledger_has_one(self) -> None:
        for issue in LEDGER.issues:
            for signature in issue.shows:
                assert cell_of(signature)[0], issue.id

    def test_a_cell_that_every_release_runs_comes_first(self) -> None:
        anywhere = Signature(windows={}, flows=("sft-peft-model",), check="C104")
        assert cell_of(anywhere) == ("sft-peft-model[qwen2-full-gc]", False)

    def test_a_deep_check_is_measured_by_the_deep_tier(self) -> None:
        (issue,) = chosen(LEDGER, ("accumulation-divided-twice",))
        assert cell_of(issue.shows[0])[1] is True


class TestChosen:
    def test_all_without_names(self) -> None:
        assert chosen(LEDGER, ()) == LEDGER.issues

    def test_an_unknown_name_is_refused(self) -> None:
        with pytest.raises(UnknownName, match="no issue 'trl#1'"):
            chosen(LEDGER, ("trl#1",))


ISSUE = dataclasses.replace(LEDGER.issues[0], shows=LEDGER.issues[0].shows[:1])
SHOWN = Verdict("x", Outcome.XFAIL, "trl#3926: C104", Symptom.FLAT, issues=("trl#3926",))
PASSED = Verdict("x", Outcome.PASS, "as stated", Symptom.FALLS)
OTHER = Verdict("x", Outcome.FAIL, "not listed: F001", Symptom.ERROR)
LOST = Verdict("x", Outcome.INFRASTRUCTURE, "the machine failed", Symptom.UNKNOWN)


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, in_places: Any) -> Callable[..., list[str]]:
    """Replace the index, resolving and runs; return the sides that were run."""

    def use(inside: Verdict, outside: Verdict, alone: bool = True) -> list[str]:
        ran: list[str] = []
        in_places(runs=tmp_path)

        def probe(_: Bench, of: Resolved) -> Probe:
            ran.append(of.asked)
            verdict = inside if of.asked.startswith("trl==0.20.0") and "with" not in of.asked else outside
            moved = "with" in of.asked or of.asked == "trl==0.20.0"
            version = "0.20.0" if verdict is inside else "0.19.1"
            versions = {"trl": version, "peft": "0.16.0" if moved else "0.15.2"}
            missing = "with" in of.asked and not alone
            return Probe(of.asked, versions, Measured(None, "no environment"), None if missing else verdict)

        def resolve(_: Any, asked: str, *__: Any) -> Any:
            lock = type("Lock", (), {"requirements": {"trl": asked.rpartition("=")[2]}})()
            return type("Resolved", (), {"asked": asked, "lock": lock})()

        def moved(two: windows.Two, packages: Any) -> Any:
            return type("Resolved", (), {"asked": f"{two.before.asked} with {two.after.asked}"})()

        there = tuple(Release(version, date(2025, 7, 1)) for version in RELEASES[:3])
        monkeypatch.setattr(windows.index, "releases", lambda package: there)
        monkeypatch.setattr(windows, "resolve", resolve)
        monkeypatch.setattr(windows.Two, "moved", moved)
        monkeypatch.setattr(Bench, "probe", probe)
        return ran

    return use


def measured() -> list[MeasuredEdge]:
    return list(measure((ISSUE,), MATRIX, lambda _: None))


class TestMeasuring:
    def test_only_the_package_moves(self, stand: Callable[..., list[str]]) -> None:
        ran = stand(SHOWN, PASSED)
        (found,) = measured()
        assert ran == ["trl==0.20.0", "trl==0.20.0 with trl==0.19.1"]
        assert found.by_package and found.edge == "trl>=0.20.0" and found.cell == "sft-peft-model[qwen2-nf4-gc]"
        assert (found.inside.shows, found.outside.shows) == ("trl#3926: C104", "as stated")

    def test_where_it_cannot_move_alone_the_release_has_its_own_companions(
        self, stand: Callable[..., list[str]]
    ) -> None:
        ran = stand(SHOWN, PASSED, alone=False)
        (found,) = measured()
        assert ran[-1] == "trl==0.19.1"
        assert found.holds and not found.by_package and found.moved == ("peft 0.16.0 -> 0.15.2",)

    @pytest.mark.parametrize(
        ("inside", "outside", "holds"),
        [
            (SHOWN, PASSED, True),
            (SHOWN, dataclasses.replace(SHOWN, issues=("other",)), True),
            (SHOWN, OTHER, False),
            (PASSED, PASSED, False),
            (dataclasses.replace(SHOWN, issues=("other",)), PASSED, False),
            (SHOWN, LOST, None),
            (SHOWN, dataclasses.replace(SHOWN, issues=("cpu",), kind=Kind.PLATFORM), None),
        ],
        ids=["gone", "another outside", "unlisted outside", "not inside", "another inside", "lost", "machine outside"],
    )
    def test_an_edge_holds_where_both_sides_are_as_listed(
        self, stand: Callable[..., list[str]], inside: Verdict, outside: Verdict, holds: bool | None
    ) -> None:
        stand(inside, outside)
        assert [one.holds for one in measured()] == [holds]


SCRIPTED = Scripted(windows={"trl": ">=0.20.0"}, script="peft_imports", error="ImportError", harm=Harm.CRASHES)


class TestScripts:
    """An edge of a script is measured as one of a cell is; where its window is open, by the newest release too."""

    def issue(self, windows: dict[str, str]) -> Issue:
        return dataclasses.replace(ISSUE, shows=(), scripts=(dataclasses.replace(SCRIPTED, windows=windows),))

    @pytest.fixture(autouse=True)
    def _script_bench(self, monkeypatch: pytest.MonkeyPatch, stand: Callable[..., list[str]]) -> None:
        self.ran = stand(SHOWN, PASSED)
        monkeypatch.setattr(ScriptBench, "probe", Bench.probe)

    def test_the_lower_edge_and_the_open_end(self) -> None:
        low, end = measure((self.issue({"trl": ">=0.20.0"}),), MATRIX, lambda _: None)
        assert (low.edge, low.by_package) == ("trl>=0.20.0", True)
        assert (end.edge, end.inside.version, end.outside, end.moved) == ("trl==0.20.0", "0.20.0", None, ())
        assert end.holds and end.by_package
        assert low.cell == end.cell == "tests/exam/issues/peft_imports.py"
        assert low.script_sha256 == hashlib.sha256(SCRIPT.read_bytes()).hexdigest()

    def test_a_window_that_ends_has_no_open_end(self) -> None:
        (end,) = measure((self.issue({"trl": "<0.20.0"}),), MATRIX, lambda _: None)
        assert end.edge == "trl<0.20.0"

    def test_without_windows_the_newest_release_of_the_library_must_show_it(self) -> None:
        (end,) = measure((self.issue({}),), MATRIX, lambda _: None)
        assert (end.edge, end.holds) == ("trl==0.20.0", True)

    def test_an_open_end_that_the_newest_release_does_not_show_does_not_hold(
        self, stand: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stand(PASSED, PASSED)
        monkeypatch.setattr(ScriptBench, "probe", Bench.probe)
        (end,) = measure((self.issue({}),), MATRIX, lambda _: None)
        assert (end.holds, end.answer) == (False, "does not hold")

    def test_the_printed_lines_name_the_script(self) -> None:
        (end,) = measure((self.issue({}),), MATRIX, lambda _: None)
        assert list(windows._lines(end)) == [
            "trl#3926, way 0, tests/exam/issues/peft_imports.py",
            "  trl==0.20.0: shown by the newest release",
            "    trl 0.20.0: trl#3926: C104",
        ]


@pytest.mark.parametrize(("outside", "code"), [(PASSED, 0), (OTHER, 1), (LOST, 3)])
def test_the_command_adds_to_the_file_and_says_how_it_went(
    stand: Callable[..., list[str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    in_places: Any,
    capsys: pytest.CaptureFixture[str],
    outside: Verdict,
    code: int,
) -> None:
    stand(SHOWN, outside)
    checkout = tmp_path / "checkout"
    (checkout / "matrices").mkdir(parents=True)
    path = checkout / "matrices" / "windows.json"
    there = dataclasses.replace(EARLIER, issue="adapter-replaced")
    path.write_text(windows.as_text([there]))
    monkeypatch.setattr(windows, "chosen", lambda *_: (ISSUE,))
    in_places(runs=tmp_path, checkout=checkout)
    assert windows_command((), as_json=False) == code
    assert [one.issue for one in read_windows(path)] == ["adapter-replaced", "trl#3926"]
    assert "trl#3926, way 0, sft-peft-model[qwen2-nf4-gc]" in capsys.readouterr().out
    assert windows_command((), as_json=True) == code


EARLIER = MeasuredEdge(
    issue="",
    shows=0,
    package="trl",
    edge="trl>=0.20.0",
    cell="x",
    inside=windows.Side(version="0.20.0", stack="x", versions={}, shows=""),
    outside=windows.Side(version="0.19.1", stack="x", versions={}, shows=""),
    moved=(),
    holds=True,
    measured="2026-11-30T07:00:00Z",
)


def test_companions_are_those_that_the_other_windows_take_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release whose own companions are outside another window is measured with the nearest inside it."""
    there = [Release(Version(text), date(2025, 7, 1)) for text in ("4.52.4", "4.53.0", "4.54.0")]
    monkeypatch.setattr(windows.index, "releases", lambda package: there)
    asked: list[tuple[str, ...]] = []
    signature = Signature(windows={"trl": "<0.20.0", "transformers": ">=4.53.0"}, flows=("sft-full",), check="C104")
    (edge,) = edges_among("trl", "<0.20.0", RELEASES)
    one = windows._Measuring(ISSUE, 0, signature, edge, None, MATRIX)  # type: ignore[arg-type]

    def pinned(_: Any, pins: tuple[str, ...]) -> Any:
        asked.append(pins)
        lock = type("Lock", (), {"requirements": {"trl": "0.19.1", "transformers": "4.52.4"}})()
        return type("Resolved", (), {"lock": lock})()

    monkeypatch.setattr(windows._Measuring, "_pinned", pinned)
    one._inside()
    assert asked == [("trl==0.19.1",), ("trl==0.19.1", "transformers==4.53.0")]
