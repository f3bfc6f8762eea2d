"""Cells of a side are selected, run in the environment of its lock, and reported in its row."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import builders as b
import pytest
from finetune_compat.contract.catalog import flow_named
from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.contract.errors import EnvironmentMismatch, RegistryUnreachable, Unbuildable
from finetune_compat.contract.plan import Plan, PlannedCell
from finetune_compat.contract.records import Observation
from finetune_compat.gate import sides
from finetune_compat.gate.decision import Rule
from finetune_compat.gate.progress import GateProgress
from finetune_compat.gate.resolved import Resolved
from finetune_compat.gate.sides import GateSelection, Runner, prepared, side, side_before
from finetune_compat.results.run_files import RowState, StackRow, read_rows, write_row
from finetune_compat.run import stack_run
from finetune_compat.run.options import RunOptions
from finetune_compat.stacks.environments import Environment
from finetune_compat.stacks.locks import Lock, Unsolvable
from rich.console import Console
from stack_builders import lock_plan

LOCK = Lock(Path("lock"), "5f" * 32, {"trl": "0.22.2"}, {})
PLAN = lock_plan()
STACK = PLAN.stack.on(PLAN.python)


def resolved(lock: Lock | Unsolvable = LOCK) -> Resolved:
    """A side."""
    return Resolved("trl==0.22.2", Rule.ROW, PLAN, lock, ("torch: it is the machine's",), ())


def row_of(run: Path) -> StackRow:
    """The one row of a run."""
    (row,) = read_rows(run)
    return row


class TestSelection:
    @pytest.mark.parametrize(
        ("selection", "taken"),
        [
            (GateSelection(), True),
            (GateSelection(flows=("sft-peft-model",)), True),
            (GateSelection(flows=("sft-full",)), False),
            (GateSelection(cells=("sft-peft-model[qwen2-nf4-gc]",)), True),
            (GateSelection(cells=("sft-peft-model[qwen2-int8-gc]",)), False),
            (GateSelection(("sft-full",), ("sft-peft-model[qwen2-nf4-gc]",)), False),
        ],
    )
    def test_flows_and_cells_limit(self, selection: GateSelection, taken: bool) -> None:
        """A planned cell, and the id of one, in the same way on every stack and device."""
        assert selection.takes(PlannedCell("sft-peft-model", b.NF4, ())) is taken
        assert selection.has(parse_cell("trl0.22-py311/sft-peft-model[qwen2-nf4-gc]@cuda")) is taken


class TestEnvironments:
    @pytest.fixture
    def failing(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        """Make the environment fail with this error."""

        def use(error: Exception) -> None:
            def environment_of(_: Lock) -> None:
                raise error

            monkeypatch.setattr(sides, "environment_of", environment_of)

        return use

    def test_a_lock_without_a_solution_is_uninstallable(self, tmp_path: Path) -> None:
        """For the reason of the resolver."""
        assert prepared(resolved(Unsolvable(Path("lock"), "cause: trl needs peft>=9", {})), tmp_path) is None
        assert row_of(tmp_path) == StackRow(STACK, RowState.UNINSTALLABLE, "trl needs peft>=9", ())

    def test_a_package_that_does_not_build_is_uninstallable(self, tmp_path: Path, failing: Any) -> None:
        """The versions are at fault."""
        failing(Unbuildable("tokenizers does not build"))
        assert prepared(resolved(), tmp_path) is None
        assert row_of(tmp_path) == StackRow(STACK, RowState.UNINSTALLABLE, "tokenizers does not build", ())

    def test_an_environment_that_is_not_as_its_lock_is_the_machine_s(self, tmp_path: Path, failing: Any) -> None:
        """Nothing is known of the versions."""
        failing(EnvironmentMismatch("trl is 0.1"))
        assert prepared(resolved(), tmp_path) is None
        assert row_of(tmp_path) == StackRow(STACK, RowState.INFRASTRUCTURE, "trl is 0.1", ())

    def test_a_registry_that_does_not_answer_ends_the_gate(self, tmp_path: Path, failing: Any) -> None:
        """No row says anything."""
        failing(RegistryUnreachable("no route"))
        with pytest.raises(RegistryUnreachable):
            prepared(resolved(), tmp_path)
        assert list(read_rows(tmp_path)) == []


class TestCached:
    @pytest.mark.parametrize("stored", [True, False])
    def test_an_environment_is_verified_where_cells_run(
        self, stored: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Cached results are of the lock: whatever became of the environment, they hold."""
        verified: list[Lock] = []
        made = (Path("/envs/bin/python"), Environment("2.13.0+cpu", False, True))

        def environment_of(lock: Lock) -> tuple[Path, Environment]:
            verified.append(lock)
            return made

        def look_up(plan: Plan, *_: object, fresh: bool) -> Any:
            cells = tuple(replace(cell, stored=stored and not fresh) for cell in plan.cells)
            return SimpleNamespace(plan=replace(plan, cells=cells))

        monkeypatch.setattr(sides, "made_environment", lambda _: made)
        monkeypatch.setattr(sides, "environment_of", environment_of)
        monkeypatch.setattr(sides, "look_up", look_up)
        monkeypatch.setattr(stack_run, "run_plan", lambda *_, **__: None)
        monkeypatch.setenv("COMPAT_RUN_ID", "gate")
        runner = Runner(tmp_path, b.UNLISTED, (), RunOptions(), GateProgress(Console(quiet=True)))
        lock = replace(LOCK, requirements=b.VERSIONS, facts={"torch": "2.13.0"})
        assert runner.cells(resolved(lock), GateSelection(flows=("sft-full",))) is not None
        assert verified == ([] if stored else [lock])

    def test_a_block_that_is_cached_starts_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The cells that tell something are read from the store; the others are neither run nor lost."""
        made = (Path("/envs/bin/python"), Environment("2.13.0+cpu", False, True))
        told = PlannedCell("sft-full", b.FULL, ())
        lock = replace(LOCK, requirements=b.VERSIONS, facts={"torch": "2.13.0"})
        tier = SimpleNamespace(kept=lambda cells, *_: tuple(cell for cell in cells if str(cell) == str(told)))
        runner = Runner(tmp_path, b.UNLISTED, (), RunOptions(), GateProgress(Console(quiet=True)))
        ran: list[list[str]] = []

        def run_plan(plan: Plan, *_: object, **__: object) -> None:
            ran.append([str(cell) for cell in plan.cells])
            seen = [b.healthy(cell.flow, cell.variant, stack=plan.stack) for cell in plan.cells]
            b.stored(tmp_path, [StackRow(plan.stack, RowState.RAN, "", tuple(map(plan.id_of, plan.cells)))], *seen)
            for cell in plan.cells:
                runner.ended(plan.id_of(cell))
            runner.enough.blocks()

        def look_up(plan: Plan, *_: object, fresh: bool) -> Any:
            cells = tuple(replace(cell, stored=not fresh and str(cell) == str(told)) for cell in plan.cells)
            return SimpleNamespace(plan=replace(plan, cells=cells))

        monkeypatch.setattr(sides, "made_environment", lambda _: made)
        monkeypatch.setattr(sides, "environment_of", lambda _: pytest.fail("an environment was verified"))
        monkeypatch.setattr(sides, "look_up", look_up)
        monkeypatch.setattr(sides, "default_tier", lambda: tier)
        monkeypatch.setattr(stack_run, "run_plan", run_plan)
        monkeypatch.setenv("COMPAT_RUN_ID", "gate")
        side_ = resolved(lock)
        runner.both(side_, side_, GateSelection(flows=("sft-full",)))
        assert ran == [[str(told)]]
        assert len(row_of(tmp_path).selected) == 1
        assert len(runner.dropped) == len(flow_named("sft-full").variants) - 1


class TestSide:
    def test_before_it_ran(self) -> None:
        """As if its cells ran; torch is of the plan, and not of the lock."""
        found = side_before(resolved())
        assert (found.asked, found.stack, found.state, found.reason) == ("trl==0.22.2", STACK, RowState.RAN, "")
        assert found.versions == {"trl": "0.22.2", "torch": PLAN.torch}
        assert (found.lock_sha256, found.not_followed) == (LOCK.sha256, ("torch: it is the machine's",))

    def test_without_a_lock_it_has_no_versions(self) -> None:
        """Nothing was installed."""
        found = side_before(resolved(Unsolvable(Path("lock"), "cause: why", {})))
        assert (found.versions, found.lock_sha256) == ({}, "")

    def test_after_it_ran(self, tmp_path: Path) -> None:
        """Its row says how."""
        write_row(tmp_path, StackRow("another", RowState.RAN, "", ()))
        write_row(tmp_path, StackRow(STACK, RowState.INFRASTRUCTURE, "no disk space", ()))
        found = side(resolved(), tmp_path)
        assert (found.state, found.reason) == (RowState.INFRASTRUCTURE, "no disk space")


ONE, OTHER = "trl0.19-py311", "trl0.22-py311"


def interrupted(run: Path, rows: list[StackRow], *seen: Observation) -> list[str]:
    """What a gate leaves out that ends after these cells, between the two stacks of the rows."""
    b.stored(run, rows, *seen)
    runner = Runner(run, b.UNLISTED, (), RunOptions(), GateProgress(Console(quiet=True)))
    runner._drop_unfinished(tuple(row.name for row in rows))
    return runner.dropped


def test_a_cell_that_one_side_did_not_finish_is_left_out_on_both(tmp_path: Path) -> None:
    """It could not be compared. The row holds the others."""
    one, other = ([b.healthy(variant=kind, stack=stack) for kind in (b.NF4, b.INT8)] for stack in (ONE, OTHER))
    assert interrupted(tmp_path, [b.ran(*one), b.ran(*other)], *one, other[0]) == [
        "sft-peft-model[qwen2-int8-gc]@cpu",
    ]
    assert {row.name: row.selected for row in read_rows(tmp_path)} == {ONE: (one[0].cell,), OTHER: (other[0].cell,)}


def test_a_process_that_was_ended_before_it_began_is_not_the_machine_s(tmp_path: Path) -> None:
    """Its row has no cell; those that are cached count, and the others are left out."""
    one, other = ([b.healthy(variant=kind, stack=stack) for kind in (b.NF4, b.INT8)] for stack in (ONE, OTHER))
    ended = StackRow(OTHER, RowState.INFRASTRUCTURE, "pytest ended with status -15", ())
    b.stored(tmp_path, [b.ran(*one), ended], *one, other[0])
    runner = Runner(tmp_path, b.UNLISTED, (), RunOptions(), GateProgress(Console(quiet=True)))
    runner.enough.planned([seen.cell for seen in (*one, *other)], [one[0].cell])
    runner._drop_unfinished((ONE, OTHER))
    assert {row.name: (row.state, row.selected) for row in read_rows(tmp_path)} == {
        ONE: (RowState.RAN, (one[0].cell,)),
        OTHER: (RowState.RAN, (other[0].cell,)),
    }
    assert runner.dropped == ["sft-peft-model[qwen2-int8-gc]@cpu"]


def test_a_side_that_cannot_be_installed_stays_so(tmp_path: Path) -> None:
    """Its row has the reason."""
    one = b.healthy(stack=ONE)
    gone = b.uninstallable(OTHER)
    assert interrupted(tmp_path, [b.ran(one), gone], one) == ["sft-peft-model[qwen2-nf4-gc]@cpu"]
    assert {row.name: row for row in read_rows(tmp_path)} == {
        ONE: StackRow(ONE, RowState.RAN, "", ()),
        OTHER: gone,
    }


def test_cells_that_will_be_asked_for_run_on_both_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting a stack keeps one core busy. A release that cannot be installed is left to the one who asks for it."""
    together = threading.Barrier(2, timeout=20)

    def cells_of(self: Runner, of: str, *_: object) -> None:
        together.wait()
        if of == "trl 0.23.0":
            raise RegistryUnreachable("no route")

    monkeypatch.setattr(Runner, "_of", cells_of)
    monkeypatch.setattr(sides, "at_once", lambda _: 2)
    runner = Runner(tmp_path, b.UNLISTED, (), RunOptions(), GateProgress(Console(quiet=True)))
    asked = [(name, GateSelection()) for name in ("trl 0.23.0", "trl 0.23.1")]
    runner.ahead(asked)  # type: ignore[arg-type]  # sides are named
    assert together.n_waiting == 0
