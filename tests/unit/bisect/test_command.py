"""`compat bisect` with stand-ins for runs: what it answers, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import builders as b
import pytest
from finetune_compat.bisect import command
from finetune_compat.bisect.answer import BisectAnswer
from finetune_compat.bisect.command import BisectRequest, bisect, bisect_command, chosen_releases
from finetune_compat.bisect.probe import Probe
from finetune_compat.checks.judge import judge
from finetune_compat.contract.catalog import flow_named
from finetune_compat.contract.errors import CompatError, Interrupted
from finetune_compat.contract.records import Observation
from finetune_compat.history.condition import Measured
from finetune_compat.machine.capacity import CELL_BYTES, Machine, Share
from finetune_compat.stacks import index
from finetune_compat.stacks.index import Release
from finetune_compat.stacks.matrix import read_matrix
from finetune_compat.watch.host import ChangesOutside
from packaging.version import Version

SEEN = b.healthy("sft-peft-model")
TRL = [f"0.{minor}.{patch}" for minor in range(9, 30) for patch in range(3)]
FROZEN = [version for version in TRL if Version("0.20.0") <= Version(version) < Version("0.23.1")]

Results = Callable[[str], Observation | str]


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Replace the index, and runs by what `of` gives for a version: an observation, or why there is none."""

    def use(of: Results, stored: Mapping[str, Observation] | None = None, there: list[str] = TRL) -> list[str]:
        ran: list[str] = []
        releases = tuple(Release(Version(version), date(2025, 1, 1)) for version in there)
        monkeypatch.setattr(index, "releases", lambda package: releases)

        def probed(line: Any, version: str, seen: Observation | str, *, now: bool) -> Probe:
            versions = {line.package: version, "peft": "0.17.0"}
            if isinstance(seen, str):
                return Probe(version, versions, Measured(None, seen), ran=False)
            verdict = judge(seen, flow_named(seen.flow), ())
            return Probe(version, versions, line.bench.condition.of(verdict, seen), verdict, seen, ran=now)

        def probe(line: Any, place: int, signals: Sequence[int] | None = None) -> Probe:
            version = str(line.releases[place].version)
            ran.append(version)
            return probed(line, version, of(version), now=True)

        def known(line: Any) -> dict[int, Probe]:
            places = {str(release.version): place for place, release in enumerate(line.releases)}
            return {places[name]: probed(line, name, seen, now=False) for name, seen in (stored or {}).items()}

        monkeypatch.setattr(command._Line, "probe", probe)
        monkeypatch.setattr(command._Line, "stored", known)
        monkeypatch.setattr(command._Walk, "_with_python", lambda walk, place: walk.probes[place])
        return ran

    return use


def flagship(version: str) -> Observation:
    return b.frozen(SEEN) if version in FROZEN else SEEN


def asked(**options: Any) -> BisectRequest:
    return BisectRequest("trl", **{"flow": "sft-peft-model", "device": "cpu", **options})


def edges(answer: BisectAnswer) -> list[tuple[str, str]]:
    return [(edge.before.version, edge.after.version) for edge in answer.edges]


class TestBisect:
    def test_the_flagship_has_its_four_releases(self, stand: Callable[..., list[str]]) -> None:
        ran = stand(flagship)
        answer = bisect(asked())
        assert edges(answer) == [("0.19.2", "0.20.0"), ("0.23.0", "0.23.1")]
        assert answer.runs == len(ran) == len({*ran})
        assert all(edge.runs <= answer.bound for edge in answer.edges)
        assert answer.runs - answer.sample_runs <= 2 * answer.bound
        assert {*ran} | {*answer.not_looked_at} == {*TRL}

    def test_stored_results_cost_nothing(self, stand: Callable[..., list[str]]) -> None:
        stored = {version: flagship(version) for version in TRL}
        ran = stand(flagship, stored)
        answer = bisect(asked())
        assert edges(answer) == [("0.19.2", "0.20.0"), ("0.23.0", "0.23.1")]
        assert (ran, answer.runs, answer.stored) == ([], 0, len(TRL))

    def test_what_cannot_run_is_skipped_and_named(self, stand: Callable[..., list[str]]) -> None:
        lost = {"0.20.0": "cannot be solved: no", "0.23.0": "cannot be imported: ImportError: no"}
        stand(lambda version: lost.get(version, flagship(version)))
        answer = bisect(asked(sample=40))
        assert edges(answer) == [("0.19.2", "0.20.1"), ("0.22.2", "0.23.1")]
        assert [edge.skipped for edge in answer.edges] == [("0.20.0",), ("0.23.0",)]
        assert {result.version: result.shown for result in answer.results if result.bad is None} == lost

    @pytest.mark.parametrize("condition", ["C104", "stages.trainer.trainable == 0"])
    def test_other_conditions_find_the_same(self, stand: Callable[..., list[str]], condition: str) -> None:
        stand(flagship)
        assert edges(bisect(asked(condition=condition))) == [("0.19.2", "0.20.0"), ("0.23.0", "0.23.1")]

    def test_a_number_that_moves_and_comes_back(self, stand: Callable[..., list[str]]) -> None:
        assert SEEN.training is not None
        other = replace(SEEN, training=replace(SEEN.training, eval_before=4.6))
        stand(lambda version: other if Version("0.15.1") <= Version(version) < Version("0.21.0") else SEEN)
        answer = bisect(asked(condition="training.eval_before", tolerance=1e-3))
        assert edges(answer) == [("0.15.0", "0.15.1"), ("0.20.2", "0.21.0")]
        assert [stretch[2] for stretch in answer.stretches] == [False, True, False]

    def test_the_deep_tier_is_chosen_by_the_condition(self, stand: Callable[..., list[str]]) -> None:
        stand(lambda _: SEEN)
        assert bisect(asked(condition="G402", flow="sft-all-linear")).subject == "sft-all-linear[qwen2-full-gc]"
        with pytest.raises(CompatError, match="the deep tier measures no cell of sft-adapter-reload-frozen"):
            bisect(asked(condition="G402", flow="sft-adapter-reload-frozen"))


@pytest.fixture
def script(tmp_path: Path) -> str:
    """The path of a script."""
    path = tmp_path / "train.py"
    path.write_text("pass\n")
    return str(path)


class TestScripts:
    """A script runs on several releases at the same time, as cells do."""

    @pytest.fixture(autouse=True)
    def _machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(command, "this_machine", lambda gpus: Machine(cores=4, memory=8 * CELL_BYTES))
        monkeypatch.setattr(command, "most_memory", lambda: CELL_BYTES)
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    @pytest.fixture
    def most(self, stand: Callable[..., list[str]]) -> Callable[..., list[int]]:
        """Let runs take a moment; return how many there were at the same time, at each of their starts."""

        def use(of: Results = flagship) -> list[int]:
            running, seen, mutex = [0], list[int](), threading.Lock()

            def run(version: str) -> Observation | str:
                with mutex:
                    running[0] += 1
                    seen.append(running[0])
                time.sleep(0.05)
                try:
                    return of(version)
                finally:
                    running[0] -= 1

            stand(run)
            return seen

        return use

    def test_the_first_run_is_alone_and_the_others_fill_the_cores(
        self, most: Callable[..., list[int]], script: str
    ) -> None:
        """The bound of the search holds as it does for cells."""
        seen = most()
        answer = bisect(asked(flow=None, script=script))
        assert edges(answer) == [("0.19.2", "0.20.0"), ("0.23.0", "0.23.1")]
        assert (seen[:2], max(seen)) == ([1, 1], 4)
        assert all(edge.runs <= answer.bound for edge in answer.edges)
        assert answer.runs - answer.sample_runs <= 2 * answer.bound

    def test_as_many_run_as_memory_allows(
        self, most: Callable[..., list[int]], script: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What one run needs, the first one shows: here 3 of 8 GB."""
        seen = most()
        monkeypatch.setattr(command, "most_memory", lambda: 3 * CELL_BYTES)
        bisect(asked(flow=None, script=script))
        assert max(seen) == 2

    def test_a_release_that_does_not_run_says_nothing_of_memory(
        self, most: Callable[..., list[int]], script: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The next release is alone too."""
        seen = most(lambda version: "cannot be solved" if version == "0.9.0" else flagship(version))
        bisect(asked(flow=None, script=script))
        assert (seen[:3], max(seen)) == ([1, 1, 1], 4)

    def test_one_that_changes_other_files_runs_alone(
        self, stand: Callable[..., list[str]], script: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
    ) -> None:
        """What was ended runs again, and everything after it runs on one release at a time. Nothing runs twice."""
        ran = stand(flagship)
        alone = command._Line.probe
        ended = []

        def probe(line: Any, place: int, signals: Sequence[int] | None = None) -> Probe:
            if signals is not None:
                ended.append(place)
                raise ChangesOutside("/home/me/out.json", "train.py")
            assert threading.current_thread() is threading.main_thread()
            return alone(line, place)

        monkeypatch.setattr(command._Line, "probe", probe)
        answer = bisect(asked(flow=None, script=script))
        assert edges(answer) == [("0.19.2", "0.20.0"), ("0.23.0", "0.23.1")]
        assert len(ran) == len({*ran}) == answer.runs
        assert 0 < len(ended) == len({*ended}) < answer.sample_runs
        said = [line for line in capsys.readouterr().err.splitlines() if "at a time" in line]
        assert said == [
            "it changes /home/me/out.json, which is outside its own directory: it runs on one release at a time"
        ]

    def test_a_signal_ends_all_runs(
        self, stand: Callable[..., list[str]], script: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Those that run end, and no other one begins."""
        ran = stand(flagship)
        alone = command._Line.probe

        def probe(line: Any, place: int, signals: Sequence[int] | None = None) -> Probe:
            if signals is not None:
                os.kill(os.getpid(), signal.SIGINT)
                while not signals:
                    time.sleep(0.01)
                raise Interrupted(signals[0])
            return alone(line, place)

        monkeypatch.setattr(command._Line, "probe", probe)
        with pytest.raises(Interrupted):
            bisect(asked(flow=None, script=script))
        assert len(ran) == 1

    @pytest.mark.parametrize(
        ("cores", "gigabytes", "threads", "found"),
        [(2, 8, None, Share(2, 1)), (64, 64, None, Share(4, 16)), (64, 2, None, Share(2, 32)), (2, 8, 2, Share(1, 2)),
         (8, 8, 4, Share(2, 4)), (1, 0, None, Share(1, 1))],
    )  # fmt: skip
    def test_cores_are_shared_out(self, cores: int, gigabytes: int, threads: int | None, found: Share) -> None:
        """The threads of all runs together are not more than the cores, unless one run asks for more."""
        assert command.shared(Machine(cores, gigabytes * CELL_BYTES), threads) == found

    @pytest.mark.parametrize(("asks", "threads"), [(None, None), ("3", 3), ("0", None), ("2,1", None)])
    def test_the_threads_that_the_user_asks_for(
        self, asks: str | None, threads: int | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A list of OpenMP, one number a level, is left to the libraries."""
        if asks is not None:
            monkeypatch.setenv("OMP_NUM_THREADS", asks)
        assert command.asked_threads() == threads


class TestOutput:
    def test_the_terminal(self, stand: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]) -> None:
        stand(flagship)
        assert bisect_command(asked(), as_json=False, issue=False) == 0
        out = capsys.readouterr().out
        assert "last good 0.19.2, first bad 0.20.0" in out
        assert "last bad 0.23.0, first good again 0.23.1" in out
        assert "0.9.0 to" not in out.partition("Not looked at (")[2], "the oldest release is in the sample"
        assert " to " in out.partition("Not looked at (")[2]
        assert "C104 fails, eval loss: flat" in out

    def test_progress_has_the_runs_left(
        self, stand: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        stand(flagship)
        bisect_command(asked(), as_json=False, issue=False)
        lines = [line for line in capsys.readouterr().err.splitlines() if "runs left" in line]
        assert lines[-1].endswith("(about 0 runs left)")

    def test_json(self, stand: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]) -> None:
        stand(flagship)
        bisect_command(asked(), as_json=True, issue=False)
        answer = json.loads(capsys.readouterr().out)
        assert [edge["after"]["version"] for edge in answer["edges"]] == ["0.20.0", "0.23.1"]
        assert answer["command"] == "compat bisect --flow sft-peft-model --package trl --device cpu"

    def test_the_text_of_an_issue(self, stand: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]) -> None:
        stand(flagship)
        bisect_command(asked(), as_json=False, issue=True)
        out = capsys.readouterr().out
        assert out.startswith("### trl 0.20.0: C104 fails")
        assert "Since 0.20.0 (last good release: 0.19.2), until 0.23.0, good again in 0.23.1." in out
        assert "| trl | 0.19.2 | 0.20.0 | 0.23.1 |" in out

    def test_the_text_of_an_issue_has_the_modules_of_the_script(
        self, stand: Callable[..., list[str]], capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        """Without them, nobody else can run it."""
        (tmp_path / "train.py").write_text("import rows\n")
        (tmp_path / "rows.py").write_text("ROWS = 3\n")
        stand(flagship)
        bisect_command(asked(flow=None, script=str(tmp_path / "train.py")), as_json=False, issue=True)
        out = capsys.readouterr().out
        assert "```python\nimport rows\n```\n\nIt imports `rows.py`:\n\n```python\nROWS = 3\n```\n" in out

    def test_without_a_change_nothing_is_known(
        self, stand: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        stand(lambda _: SEEN)
        assert bisect_command(asked(), as_json=False, issue=False) == 3
        assert "No change between the releases that gave a result." in capsys.readouterr().out


class TestReleases:
    @pytest.fixture(autouse=True)
    def _index(self, monkeypatch: pytest.MonkeyPatch) -> None:
        there = tuple(Release(Version(name), date(2025, 1, 1)) for name in ("0.1.0", "0.9.6", "1.0.0", "1.1.0rc1"))
        monkeypatch.setattr(index, "releases", lambda package: there)

    def test_final_releases_from_the_oldest_row_on(self) -> None:
        found, older = chosen_releases(read_matrix(), "trl", "")
        assert [str(release.version) for release in found] == ["0.9.6", "1.0.0"]
        assert older == "0.1.0 to 0.1.0"

    def test_the_ones_that_are_asked_for(self) -> None:
        assert len(chosen_releases(read_matrix(), "trl", "<1.0")[0]) == 2

    @pytest.mark.parametrize(
        ("package", "wanted", "why"),
        [("wandb", "", "no package that the matrix resolves"), ("trl", "what", "selects no"), ("trl", "<0.5", "1 rel")],
    )
    def test_what_is_refused(self, package: str, wanted: str, why: str) -> None:
        with pytest.raises(CompatError, match=why):
            chosen_releases(read_matrix(), package, wanted)
