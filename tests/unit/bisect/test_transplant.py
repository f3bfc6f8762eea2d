"""Transplants: scratch copies share no file that is changed, and a proof needs both directions."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import builders as b
import pipelines as p
import pytest
from finetune_compat.bisect import transplant
from finetune_compat.bisect.lines import installed
from finetune_compat.bisect.probe import Bench, Probe, Subject
from finetune_compat.bisect.transplant import Proof, Ran, prove, scratch_copy
from finetune_compat.contract.errors import CompatError
from finetune_compat.contract.records import DeviceKind
from finetune_compat.contract.script import Pipeline
from finetune_compat.gate.decision import Rule
from finetune_compat.gate.resolved import Resolved
from finetune_compat.gate.script import Script
from finetune_compat.history.condition import Measured, condition
from finetune_compat.run.options import RunOptions
from finetune_compat.stacks.locks import Lock
from finetune_compat.stacks.matrix import Stack, read_matrix
from finetune_compat.watch.host import Interpreter, NothingSeen

GOOD = "class Trainer:\n    def prepare(self, model):\n        return model\n    def same(self):\n        pass\n"
BAD = (
    "import os\n\nclass Trainer:\n    def prepare(self, model):\n        model = freeze(model)\n        return model\n"
    "    def same(self):\n        pass\n"
)
PLACE = "trl/trainer.py::Trainer.prepare"


def environment(root: Path, text: str) -> Path:
    """A virtual environment with a package `trl`, hard-linked from a cache, and another one."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root)], check=True)
    python = root / "bin" / "python"
    site = installed(python, {}).site
    cached = root.with_name(f"{root.name}-cached.py")
    cached.write_text(text)
    (site / "trl" / "__pycache__").mkdir(parents=True)
    (site / "trl" / "__init__.py").write_text("")
    (site / "trl" / "trainer.py").hardlink_to(cached)
    (site / "other").mkdir()
    (site / "other" / "__init__.py").write_text("value = 7\n")
    return python


def side(python: Path, version: str, measured: Measured) -> Ran:
    plan = read_matrix().plan(Stack("trl", version, version, date(2025, 1, 1), date(2025, 8, 1), "", ("3.11",)), "3.11")
    lock = Lock(Path("lock"), "", {"trl": version}, {"torch": "2.13.0"})
    probe = Probe(f"trl{version}", {"trl": version}, measured, python=python)
    return Ran(Resolved(f"trl=={version}", Rule.ROW, plan, lock, (), ()), probe)


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Ran, Ran]:
    good, bad = environment(tmp_path / "good", GOOD), environment(tmp_path / "bad", BAD)
    return side(good, "0.23.1", Measured("trains", "trains")), side(bad, "0.23.0", Measured("fails", "fails", bad=True))


@pytest.fixture
def proven(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sides: tuple[Ran, Ran]
) -> Callable[[Callable[[str], Measured]], Proof]:
    """Prove with a stand-in for a run, which gets the text of the changed file."""

    def use(run: Callable[[str], Measured]) -> Proof:
        def ran(_: Any, __: Any, python: Path) -> Measured:
            return run(installed(python, {}).source("trl/trainer.py"))

        monkeypatch.setattr(transplant, "_run", ran)
        subject, asked = Subject("sft-peft-model[qwen2-nf4-gc]"), condition("verdict", None)
        bench = Bench(tmp_path, b.UNLISTED, subject, asked, DeviceKind.CPU, (), RunOptions(), lambda _: None)
        return prove(bench, *sides, PLACE)

    return use


TRAINS, FAILS = Measured("trains", "trains"), Measured("fails", "fails", bad=True)


class TestProof:
    def test_proven_where_it_breaks_and_repairs(self, proven: Callable[..., Proof]) -> None:
        found = proven(lambda text: FAILS if "freeze(model)" in text else TRAINS)
        assert found.proven and found.good_with_bad == "fails" and found.bad_with_good == "trains"

    def test_not_proven_where_the_good_one_repairs_nothing(self, proven: Callable[..., Proof]) -> None:
        found = proven(lambda text: FAILS)
        assert (found.breaks, found.repairs, found.proven) == (True, False, False)

    def test_not_proven_where_another_error_comes(self, proven: Callable[..., Proof]) -> None:
        other = Measured(("deviates", ("F001",)), "F001 fails", bad=True)
        found = proven(lambda text: other if "freeze(model)" in text else TRAINS)
        assert (found.breaks, found.repairs, found.proven) == (False, True, False)

    def test_not_proven_where_nothing_ran(self, proven: Callable[..., Proof]) -> None:
        assert not proven(lambda _: Measured(None, "killed")).proven

    def test_environments_and_the_cache_stay_as_they_are(
        self, proven: Callable[..., Proof], sides: tuple[Ran, Ran], tmp_path: Path
    ) -> None:
        proven(lambda _: TRAINS)
        assert [one.environment.source("trl/trainer.py") for one in sides] == [GOOD, BAD]
        assert (tmp_path / "good-cached.py").read_text() == GOOD
        assert (tmp_path / "bad-cached.py").read_text() == BAD

    @pytest.mark.parametrize(
        ("place", "hunk", "why"),
        [
            (
                "trl/trainer.py::Trainer.prepar",
                None,
                r"no Trainer.prepar in .*\nNames .*: Trainer.prepare",
            ),
            ("trl/missing.py::f", None, "it has no Python file trl/missing.py"),
            ("trl/trainer.py", None, "has no function in trl/trainer.py"),
            ("trl/trainer.py::Trainer.same", None, "nothing to exchange"),
            (PLACE, 2, r"--hunk 2: the function has 1 changes\n1: \+model = freeze\(model\);"),
        ],
    )
    def test_what_cannot_be_exchanged_is_refused(
        self, sides: tuple[Ran, Ran], tmp_path: Path, place: str, hunk: int | None, why: str
    ) -> None:
        subject, asked = Subject("x"), condition("verdict", None)
        bench = Bench(tmp_path, b.UNLISTED, subject, asked, DeviceKind.CPU, (), RunOptions(), lambda _: None)
        with pytest.raises(CompatError, match=why):
            prove(bench, *sides, place, hunk)

    def test_a_change_that_is_no_python_alone(self, sides: tuple[Ran, Ran], tmp_path: Path) -> None:
        for one, text in zip(
            sides, ("def f():\n  a = (\n  1,\n  2)\n", "def f():\n  a = [\n  1,\n  2]\n"), strict=True
        ):
            assert one.probe.python is not None
            (installed(one.probe.python, {}).site / "trl" / "other.py").write_text(text)
        subject, asked = Subject("x"), condition("verdict", None)
        bench = Bench(tmp_path, b.UNLISTED, subject, asked, DeviceKind.CPU, (), RunOptions(), lambda _: None)
        with pytest.raises(CompatError, match="change 1 is no Python without the others"):
            prove(bench, *sides, "trl/other.py::f", 1)


class TestScript:
    """A script runs in the scratch copy, where it is watched as in a gate."""

    def test_it_is_measured_by_the_condition(
        self, sides: tuple[Ran, Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ran: list[tuple[Any, ...]] = []

        def run_pipeline(
            given: Any, interpreter: Interpreter, steps: int, variables: Any, *, throw_away: bool
        ) -> Pipeline:
            text = installed(interpreter.python, {}).source("trl/trainer.py")
            ran.append((given, interpreter.name, steps, throw_away))
            return p.pipeline(p.frozen() if "freeze(model)" in text else p.run())

        monkeypatch.setattr(transplant, "run_pipeline", run_pipeline)
        asked = condition("stages.trainer.trainable == 0", None)
        subject = Subject(script=Script(("train.py", "--fast"), 4))
        bench = Bench(tmp_path, b.UNLISTED, subject, asked, DeviceKind.CPU, (), RunOptions(), lambda _: None)
        good, bad = (
            replace(one, probe=replace(one.probe, measured=Measured(state, "")))
            for one, state in zip(sides, (False, True), strict=True)
        )
        proof = prove(bench, good, bad, PLACE, 1)
        assert proof.proven and proof.change == ("+        model = freeze(model)",)
        assert ran == [(("train.py", "--fast"), stack, 4, True) for stack in (good.of.stack, bad.of.stack)]

    def test_a_script_that_imports_nothing_gives_no_result(
        self, sides: tuple[Ran, Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def run_pipeline(*_: Any, **__: Any) -> Pipeline:
            raise NothingSeen(1, "train.py")

        monkeypatch.setattr(transplant, "run_pipeline", run_pipeline)
        subject, asked = Subject(script=Script(("train.py",), 4)), condition("verdict", None)
        bench = Bench(tmp_path, b.UNLISTED, subject, asked, DeviceKind.CPU, (), RunOptions(), lambda _: None)
        proof = prove(bench, *sides, PLACE)
        assert not proof.proven and "status 1" in proof.good_with_bad


class TestScratchCopy:
    def test_it_imports_the_copy_and_everything_else(self, sides: tuple[Ran, Ran]) -> None:
        python = sides[0].probe.python
        assert python is not None
        with scratch_copy(python, "trl") as copy:
            text = "import other, trl.trainer; print(other.value, trl.trainer.__file__)"
            out = subprocess.run([copy, "-P", "-c", text], capture_output=True, text=True, check=True).stdout
            assert out.split() == ["7", str(installed(copy, {}).site / "trl" / "trainer.py")]
            assert (installed(copy, {}).site / "trl" / "trainer.py").stat().st_nlink == 1
            root = copy.parent.parent
        assert not root.exists()
