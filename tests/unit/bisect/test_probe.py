"""What is run, and what a set of versions gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import builders as b
import pytest
from finetune_compat.bisect import probe
from finetune_compat.bisect.probe import Bench, Subject, subject
from finetune_compat.contract.catalog import Tier
from finetune_compat.contract.errors import CompatError, InstallError, RegistryUnreachable
from finetune_compat.contract.records import DeviceKind, Observation
from finetune_compat.gate.decision import Rule
from finetune_compat.gate.resolved import Resolved
from finetune_compat.history.condition import condition
from finetune_compat.results.run_files import RowState, StackRow
from finetune_compat.run.options import RunOptions
from finetune_compat.stacks.locks import Unsolvable, locked
from finetune_compat.stacks.matrix import read_matrix

MATRIX = read_matrix()
PLAN = MATRIX.plan(MATRIX.stack("trl0.24"), "3.11")
ROW = Resolved("trl0.24", Rule.ROW, PLAN, locked(PLAN), (), ())


class TestSubject:
    def test_the_first_cell_of_a_flow(self) -> None:
        found = subject("sft-peft-model", None, None, (), 10, Tier.FULL)
        assert str(found) == "sft-peft-model[qwen2-nf4-gc]"

    def test_the_first_that_the_deep_tier_measures(self) -> None:
        assert subject("sft-full", None, None, (), 10, Tier.DEEP_ONLY).cell == "sft-full[qwen2-full-gc]"

    def test_a_script_with_its_arguments(self, tmp_path: Path) -> None:
        script = tmp_path / "train.py"
        script.write_text("pass\n")
        found = subject(None, None, str(script), ("--fast",), 5, Tier.FULL)
        assert found.script is not None and found.script.given == (str(script), "--fast")

    @pytest.mark.parametrize(
        ("given", "why"),
        [
            ((None, None, None), "name one of"),
            (("sft-full", "sft-full[qwen2-full-gc]", None), "name one of"),
            ((None, "sft-full[qwen2-ful-gc]", None), "there is no cell"),
            ((None, None, "missing.py"), "no such script"),
            (("sft-fulll", None, None), "there is no flow"),
        ],
    )
    def test_what_is_refused(self, given: tuple[str | None, str | None, str | None], why: str) -> None:
        with pytest.raises(CompatError, match=why):
            subject(*given, (), 10, Tier.FULL)


class TestProbe:
    @pytest.fixture
    def bench(self, tmp_path: Path) -> Bench:
        what, asked = Subject("sft-peft-model[qwen2-nf4-gc]"), condition("verdict", None)
        return Bench(tmp_path, b.UNLISTED, what, asked, DeviceKind.CPU, (), RunOptions(), lambda _: None)

    def runs(self, monkeypatch: pytest.MonkeyPatch, *seen: Observation, error: Exception | None = None) -> list[Any]:
        """Replace the runner of cells."""
        calls: list[Any] = []

        def cells(runner: Any, of: Resolved, selection: Any) -> None:
            calls.append(selection.cells)
            if error is not None:
                raise error
            row = b.ran(*seen) if seen else StackRow(ROW.stack, RowState.RAN, "", ())
            b.stored(runner.run, [row], *seen)

        monkeypatch.setattr(probe.Runner, "cells", cells)
        return calls

    def test_it_runs_once_and_is_measured(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        calls = self.runs(monkeypatch, b.frozen(b.healthy("sft-peft-model")))
        found = bench.probe(ROW)
        assert found.measured.bad and found.seen is not None and found.versions["trl"] == "0.24.0"
        assert bench.probe(ROW) is found
        assert calls == [("sft-peft-model[qwen2-nf4-gc]",)]

    def test_an_earlier_observation_was_stored(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runs(monkeypatch, b.healthy("sft-peft-model"))
        assert bench.probe(ROW).ran is False

    def test_a_cell_that_does_not_exist(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runs(monkeypatch)
        found = bench.probe(ROW)
        assert found.measured.state is None and "does not exist" in found.measured.shown

    def test_versions_without_a_solution_run_nothing(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        calls = self.runs(monkeypatch)
        lost = Resolved("x", Rule.ROW, PLAN, Unsolvable(Path("x"), "cause: nothing fits", {}), (), ())
        assert bench.probe(lost).measured.shown == "cannot be solved: nothing fits"
        assert calls == []

    def test_an_environment_that_cannot_be_made_is_no_result(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.runs(monkeypatch, error=InstallError("uv could not install the lock"))
        found = bench.probe(ROW)
        assert (found.measured.state, found.measured.shown) == (None, "uv could not install the lock")

    def test_an_index_that_does_not_answer_ends_the_search(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runs(monkeypatch, error=RegistryUnreachable("no answer"))
        with pytest.raises(RegistryUnreachable):
            bench.probe(ROW)
