"""A whole gate, from the command line to the exit code. Cells are replaced by hand-made observations; locks, rows,
judging, comparison, search and reports are real.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import builders as b
import pytest
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.contract.catalog import CATALOG, flow_named
from finetune_compat.contract.errors import RegistryUnreachable, StackFailed, Unbuildable
from finetune_compat.contract.plan import Plan, PlannedCell
from finetune_compat.contract.records import Frame, Observation, Stage, to_json
from finetune_compat.gate import command, defaults, search, sides
from finetune_compat.gate.command import GateRequest, Until, gate_command
from finetune_compat.gate.decision import GateExit, Rule
from finetune_compat.gate.policy import load_policy
from finetune_compat.gate.report import stored
from finetune_compat.gate.resolved import Resolved
from finetune_compat.machine.places import places
from finetune_compat.results.run_files import RowState, StackRow, write_row
from finetune_compat.run import stack_run
from finetune_compat.run.default_tier import default_tier
from finetune_compat.run.workers import Sharing
from finetune_compat.stacks import index
from finetune_compat.stacks.environments import Environment
from finetune_compat.stacks.index import Release
from finetune_compat.stacks.locks import Lock, Unsolvable
from packaging.version import Version

POLICY = places().policy

FLOW = ("sft-peft-model",)
CELLS = len(flow_named("sft-peft-model").variants)
"""Cells of the flow on a CPU."""
FLOWS = ", ".join(flow.name for flow in CATALOG)
Cell = Callable[[Plan, PlannedCell, str], Observation | None]


def flagship(plan: Plan, cell: PlannedCell, trl: str) -> Observation | None:
    """TRL's behaviour with a PeftModel on a quantized base model: frozen from 0.20.0 to 0.23.0, silent or loud."""
    versions = {**b.VERSIONS, "trl": trl}
    seen = b.healthy(cell.flow, cell.variant, stack=plan.stack, versions=versions)
    broken = Version("0.20.0") <= Version(trl) < Version("0.23.1") and any(item.froze for item in cell.listed)
    if not broken:
        return seen
    chain = b.FREEZING_CHAIN if Version(trl) >= Version("0.22.0") else (*b.FREEZING_CHAIN[:2], b.FREEZING_CHAIN[3])
    frozen = b.frozen(seen, chain=chain)
    if cell.variant.gradient_checkpointing:
        return frozen
    [raised] = {item.raised for item in cell.listed if item.raised}
    return b.raised_by(b.failed(frozen, "RuntimeError", b.NO_GRAD, Stage.TRAINING), raised)


@pytest.fixture
def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_places: Any) -> Callable[[Cell], list[str]]:
    """Replace the cells of a stack by the result of a function; return the list of stacks that ran and their cells."""
    monkeypatch.setenv("COMPAT_RUN_ID", "gate")
    in_places(runs=tmp_path, environments=tmp_path / "envs")
    for module in (sides, defaults):
        monkeypatch.setattr(
            module, "environment_of", lambda lock: (Path("/envs/bin/python"), Environment("2.13.0+cpu", False, True))
        )
    monkeypatch.setattr(
        index,
        "releases",
        lambda package: tuple(Release(Version(v), date(2025, 9, 1)) for v in ("0.19.1", "0.22.2", "0.23.0", "0.23.1")),
    )
    monkeypatch.setattr(
        defaults, "ask", lambda stack, *_: {"SFTConfig": {"gradient_checkpointing": str("0.22" in stack.name)}}
    )

    def use(cell_of: Cell) -> list[str]:
        ran: list[str] = []

        def run_plan(plan: Plan, *_: object, alone: bool, sharing: Sharing) -> None:
            assert alone and sharing.pool.take(plan.stack, 0) >= 1
            trl = dict(LOCKED)[plan.stack]
            seen = [cell_of(plan, cell, trl) for cell in plan.cells]
            path = Path(plan.run) / "observations.jsonl"
            path.parent.mkdir(exist_ok=True)
            with path.open("a") as file:
                file.writelines(f"{to_json(item)}\n" for item in seen if item)
            write_row(Path(plan.run), StackRow(plan.stack, RowState.RAN, "", tuple(map(plan.id_of, plan.cells))))
            ran.append(f"{plan.stack} {len(plan.cells)}")

        monkeypatch.setattr(stack_run, "run_plan", run_plan)
        return ran

    return use


SIDES = ("trl0.19-py311", "trl0.22-py311")
"""Of `asked`."""

LOCKED = (
    ("trl0.4-py311", "0.4.7"),
    ("trl0.5-py311", "0.5.0"),
    ("trl0.19-py311", "0.19.1"),
    ("trl0.22-py311", "0.22.2"),
    ("trl0.23.0-py311", "0.23.0"),
    ("trl0.23-py311", "0.23.1"),
)


def asked(before: str = "trl==0.19.1", after: str = "trl==0.22.2", **options: Any) -> GateRequest:
    """A call of `compat gate`."""
    return GateRequest((before,), (after,), **{"flows": FLOW, "device": "cpu", **options})


def answer(tmp_path: Path) -> dict[str, Any]:
    """Read the JSON answer."""
    gate: dict[str, Any] = json.loads((tmp_path / "gate" / "gate.json").read_text())["gate"]
    return gate


class TestDecisions:
    def test_the_flagship_blocks_with_the_line_and_a_safe_target(
        self, stand: Callable[[Cell], list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """0.19.1 -> 0.22.2: the report has the issue, the freezing line, and 0.23.1, found by running it and the
        release before with one cell. Then all regressed cells run on it.
        """
        ran = stand(flagship)
        assert gate_command(asked()) is GateExit.BLOCK
        out = " ".join(capsys.readouterr().out.split())
        assert "trl#3926" in out
        assert "frozen by trl/trainer/sft_trainer.py:694 -> trl/models/utils.py:539 -> peft/utils/other.py:142" in out
        assert "trl 0.23.1 is the first release above 0.22.2 that passes" in out
        regressed = [cell for cell in answer(tmp_path)["cells"] if cell["change"] == "regressed"]
        assert sorted(ran[:2]) == [f"trl0.19-py311 {CELLS}", f"trl0.22-py311 {CELLS}"]
        assert sorted(ran[2:4]) == ["trl0.23-py311 1", "trl0.23.0-py311 1"]  # at the same time
        assert ran[-1] == f"trl0.23-py311 {len(regressed)}"
        tried = answer(tmp_path)["causes"][0]["target"]["tried"]
        assert [item["version"] for item in tried[:2]] == ["0.23.0", "0.23.1"]

    def test_its_fix_is_not_blocked(self, stand: Callable[[Cell], list[str]], tmp_path: Path) -> None:
        """0.19.1 -> 0.23.1 and 0.22.2 -> 0.23.1: nothing blocks either, and the second is a fix."""
        stand(flagship)
        assert gate_command(asked(after="trl==0.23.1")) is GateExit.ALLOW
        assert gate_command(asked(before="trl0.22", after="trl0.23")) is GateExit.ALLOW
        assert "of them fixed" in answer(tmp_path)["reason"]

    def test_a_fully_pinned_lock_hides_no_safe_target(
        self, stand: Callable[[Cell], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A release that does not fit the other pins runs as of its day, and the report names what must move."""
        stand(flagship)
        of_row, of_release = command.resolve, search.of_release

        def resolved(*given: Any, **how: Any) -> Resolved:
            return replace(of_row(*given, **how), rule=Rule.FILE)

        def released(side: Resolved, *given: Any) -> Resolved:
            found = of_release(replace(side, rule=Rule.ROW), *given)
            pinned = Unsolvable(Path("lock"), "cause: trl needs a newer transformers", {})
            return replace(found, rule=side.rule, lock=pinned) if side.rule is Rule.FILE else found

        monkeypatch.setattr(command, "resolve", resolved)
        monkeypatch.setattr(search, "of_release", released)
        assert gate_command(asked()) is GateExit.BLOCK
        beside = "transformers 4.56.2, bitsandbytes 0.48.1, datasets 4.1.1"
        assert f"trl 0.23.1 is the first release above 0.22.2 that passes, with {beside}." in answer(tmp_path)["reason"]
        told = " ".join((tmp_path / "gate" / "gate.md").read_text().split())
        assert f"that passes, with {beside} in place of the pinned versions." in told

    def test_packages_that_move_with_a_bare_pin_are_not_reported(
        self, stand: Callable[[Cell], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A bare pin brings the packages of its day, for any release."""
        stand(flagship)
        of_row = command.resolve
        monkeypatch.setattr(
            command, "resolve", lambda *given, **how: replace(of_row(*given, **how), rule=Rule.OF_ITS_DAY)
        )
        assert gate_command(asked()) is GateExit.BLOCK
        assert answer(tmp_path)["reason"].endswith("trl 0.23.1 is the first release above 0.22.2 that passes.")

    def test_one_cell_runs_alone(
        self, stand: Callable[[Cell], list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The command printed for a failed cell runs that cell and gives its verdict."""
        ran = stand(flagship)
        gate_command(asked(candidates=0))
        again = next(cell["again"] for cell in answer(tmp_path)["cells"] if cell["change"] == "regressed")
        assert again == (
            "compat gate --from trl==0.19.1 --to trl==0.22.2 --device cpu --candidates 0 "
            "--cell 'sft-peft-model[qwen2-nf4-gc]'"
        )
        ran.clear()
        assert gate_command(asked(flows=(), cells=("sft-peft-model[qwen2-nf4-gc]",), candidates=0)) is GateExit.BLOCK
        assert sorted(ran) == ["trl0.19-py311 1", "trl0.22-py311 1"]
        assert answer(tmp_path)["left_out"] == ["every cell but sft-peft-model[qwen2-nf4-gc]"]

    def test_an_infrastructure_failure_is_no_regression(
        self, stand: Callable[[Cell], list[str]], tmp_path: Path
    ) -> None:
        """Lost cells are never a pass, and no safe target is searched."""
        lost = b.out_of_memory

        def cell(plan: Plan, planned: PlannedCell, trl: str) -> Observation | None:
            seen = b.healthy(planned.flow, planned.variant, stack=plan.stack, versions=b.on_trl(trl))
            return lost(seen) if plan.stack == "trl0.23-py311" and planned == plan.cells[0] else seen

        stand(cell)
        assert gate_command(asked(after="trl0.23")) is GateExit.COULD_NOT_TELL
        assert answer(tmp_path)["reason"].startswith("1 cell of sft-peft-model could not be compared: ")
        assert gate_command(asked(before="trl0.23", after="trl0.19")) is GateExit.COULD_NOT_TELL

    def test_a_stack_that_cannot_be_installed_holds(
        self, stand: Callable[[Cell], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As the candidate, every cell is lost."""
        stand(flagship)
        made = sides.environment_of

        def environment_of(lock: Lock) -> tuple[Path, Environment]:
            if lock.facts["stack"] == "trl0.23":
                raise Unbuildable("a package fails to build: tokenizers")
            return made(lock)

        monkeypatch.setattr(sides, "environment_of", environment_of)
        assert gate_command(asked(after="trl0.23")) is GateExit.HOLD
        assert answer(tmp_path)["reason"] == (
            f"{CELLS} cells of sft-peft-model can no longer be run: a package fails to build: tokenizers."
        )
        assert answer(tmp_path)["defaults_unknown"] == "there is no environment of one side"

    @pytest.mark.parametrize("after", ["trl0.19", "trl0.22"])
    def test_without_a_baseline_no_part_of_the_answer_claims_more_than_the_whole(
        self, after: str, stand: Callable[[Cell], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """This holds whether the candidate trains or not; no exception makes an unknown result known."""
        stand(flagship)
        made = sides.environment_of

        def environment_of(lock: Lock) -> tuple[Path, Environment]:
            if lock.facts["stack"] == "trl0.23":
                raise Unbuildable("a package fails to build: tokenizers")
            return made(lock)

        monkeypatch.setattr(sides, "environment_of", environment_of)
        policy = tmp_path / "policy.toml"
        accepted = '[[exception]]\nissue = "trl#3926"\nreason = "a test"\nexpires = 9999-12-31\n'
        policy.write_text(f"{POLICY.read_text()}\n{accepted}")
        assert gate_command(asked(before="trl0.23", after=after, policy=policy)) is GateExit.COULD_NOT_TELL
        gate = answer(tmp_path)
        assert gate["reason"] == "Nothing is known of trl0.23: a package fails to build: tokenizers."
        parts = (*gate["flows"], *gate["causes"], *gate["cells"])
        assert {part["effect"] for part in parts} == {"COULD NOT TELL"}
        assert [item["cells"] for item in gate["exceptions"]] == [[]]
        suite = (tmp_path / "gate" / "gate.junit.xml").read_text()
        assert f'failures="0" errors="{CELLS}" skipped="0"' in suite

    def test_a_policy_may_hold_whatever_is_unchanged(self, stand: Callable[[Cell], list[str]], tmp_path: Path) -> None:
        """The report then names it as a cause."""
        stand(flagship)
        policy = tmp_path / "policy.toml"
        policy.write_text(POLICY.read_text().replace('unchanged = "allow"', 'unchanged = "hold"'))
        assert gate_command(asked(after="trl0.23", policy=policy)) is GateExit.HOLD
        told = answer(tmp_path)["reason"]
        assert told.startswith(f"{CELLS} cells of sft-peft-model are unchanged, which the policy does not allow: "), (
            told
        )

    def test_defaults_are_compared(self, stand: Callable[[Cell], list[str]], tmp_path: Path) -> None:
        """If the defaults of a side cannot be read, the report says so and the decision is the same."""
        stand(flagship)
        gate_command(asked(candidates=0))
        (change,) = answer(tmp_path)["defaults"]
        assert change == {"config": "SFTConfig", "field": "gradient_checkpointing", "before": "False", "after": "True"}


NO_KERNELS = (
    "CUDA is required but not available for bitsandbytes. Please consider installing the multi-platform version"
)
BROKEN_IMPORT = "cannot import name 'top_k_top_p_filtering' from 'transformers'"


def ending(kind: str, message: str, stage: Stage, *stacks: str, **versions: str) -> Cell:
    """Cells that end in this error on these stacks, and are healthy elsewhere."""

    def cell(plan: Plan, planned: PlannedCell, trl: str) -> Observation | None:
        there = {**b.VERSIONS, "trl": trl, **versions}
        seen = b.healthy(planned.flow, planned.variant, stack=plan.stack, versions=there)
        place = Frame("transformers/integrations/bitsandbytes.py", 500, "validate", "raise RuntimeError(message)")
        return b.failed(seen, kind, message, stage, place) if plan.stack in stacks else seen

    return cell


def quantized(plan: Plan, planned: PlannedCell, trl: str) -> Observation | None:
    """Quantized cells end as with Transformers 4.46 on a CPU, which is listed. The others train."""
    stacks = [plan.stack] if planned.variant.precision.quantized else []
    message = "'frozenset' object has no attribute 'discard'"
    seen = ending("AttributeError", message, Stage.LOAD, *stacks, transformers="4.46.3")(plan, planned, trl)
    shows = (shown for issue in load_ledger().issues for shown in issue.shows)
    [raised] = {shown.raised for shown in shows if shown.error == f"AttributeError: {message}"}
    return b.raised_by(seen, raised) if seen and seen.error and raised else seen


class TestNothingTrained:
    def test_a_machine_without_a_gpu_allows_nothing(
        self, stand: Callable[[Cell], list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Both sides end where bitsandbytes needs CUDA: no issue is named, and the report says what to do."""
        stand(ending("RuntimeError", NO_KERNELS, Stage.LOAD, "trl0.19-py311", "trl0.22-py311"))
        assert gate_command(asked()) is GateExit.COULD_NOT_TELL
        assert answer(tmp_path)["reason"] == (
            f"{CELLS} cells of sft-peft-model could not be compared: this machine cannot run it: "
            f"RuntimeError: {NO_KERNELS}."
        )
        assert {cell["change"] for cell in answer(tmp_path)["cells"]} == {"inconclusive"}
        out = " ".join(capsys.readouterr().out.split())
        assert "To do: Run it on a GPU. Without one, quantized weights need bitsandbytes 0.47 or later" in out
        assert "trl#3926" not in out + (tmp_path / "gate" / "gate.md").read_text()

    @pytest.mark.parametrize(
        "message",
        [NO_KERNELS, "No GPU found. A GPU is needed for quantization.", "None of the available devices `None` are"],
    )
    def test_a_machine_without_a_gpu_is_no_regression(self, message: str, stand: Callable[[Cell], list[str]]) -> None:
        """The candidate might train on a GPU with the same versions."""
        ran = stand(ending("RuntimeError", message, Stage.LOAD, "trl0.22-py311"))
        assert gate_command(asked()) is GateExit.COULD_NOT_TELL
        assert len(ran) == 2  # no safe release is searched either

    def test_a_fault_that_needs_no_gpu_is_a_regression(self, stand: Callable[[Cell], list[str]]) -> None:
        """The adapters were frozen before anything needed a GPU."""

        def cell(plan: Plan, planned: PlannedCell, trl: str) -> Observation | None:
            seen = b.healthy(planned.flow, planned.variant, stack=plan.stack, versions={**b.VERSIONS, "trl": trl})
            ill = b.failed(b.frozen(seen), "RuntimeError", NO_KERNELS, Stage.TRAINING)
            return ill if plan.stack == "trl0.22-py311" else seen

        stand(cell)
        assert gate_command(asked(candidates=0)) is GateExit.BLOCK

    @pytest.mark.parametrize("stage", [Stage.IMPORT, Stage.LOAD, Stage.PREPARE, Stage.PEFT, Stage.TRAINER])
    def test_the_same_error_before_training_on_both_sides_allows_nothing(
        self, stage: Stage, stand: Callable[[Cell], list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The listed issues of these cells were not reached and are not named."""
        stand(ending("ImportError", BROKEN_IMPORT, stage, "trl0.19-py311", "trl0.22-py311"))
        assert gate_command(asked()) is GateExit.COULD_NOT_TELL
        assert answer(tmp_path)["reason"].startswith(
            f"{CELLS} cells of sft-peft-model end in an error before training, on both sides: "
            f"F001 ImportError at {stage}: {BROKEN_IMPORT}"
        )
        out = " ".join(capsys.readouterr().out.split())
        assert "To do: Choose versions for the side in use that train, or other cells" in out
        assert "trl#3926" not in out

    def test_one_side_that_ends_before_training_is_a_regression(
        self, stand: Callable[[Cell], list[str]], tmp_path: Path
    ) -> None:
        """The release is the cause, and no listed issue that was not reached is named for it."""
        stand(ending("ImportError", BROKEN_IMPORT, Stage.LOAD, "trl0.22-py311"))
        assert gate_command(asked(candidates=0)) is GateExit.BLOCK
        assert {cell["change"] for cell in answer(tmp_path)["cells"]} == {"regressed"}
        assert "trl#3926" not in answer(tmp_path)["reason"]

    def test_a_fix_is_named_by_what_was_observed_before_it(
        self, stand: Callable[[Cell], list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """On 0.22.2 trl#3926 is listed and was not reached: the import is what was fixed."""
        stand(ending("ImportError", BROKEN_IMPORT, Stage.LOAD, "trl0.22-py311"))
        assert gate_command(asked(before="trl0.22", after="trl0.23")) is GateExit.ALLOW
        assert answer(tmp_path)["reason"] == f"Nothing blocks the upgrade in {CELLS} cells, {CELLS} of them fixed."
        assert "trl#3926" not in capsys.readouterr().out

    def test_the_same_error_in_training_is_unchanged(self, stand: Callable[[Cell], list[str]], tmp_path: Path) -> None:
        """Training was reached and judged."""
        stand(ending("IndexError", "index out of range in self", Stage.TRAINING, "trl0.19-py311", "trl0.23-py311"))
        assert gate_command(asked(after="trl0.23")) is GateExit.ALLOW
        assert {cell["change"] for cell in answer(tmp_path)["cells"]} == {"still failing"}

    @pytest.mark.parametrize("trains", ["sft-peft-config[qwen2-full-gc]", "sft-full[qwen2-full-gc]"])
    def test_a_listed_error_before_training_allows_nothing(
        self, trains: str, stand: Callable[[Cell], list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Training of another flow, or of the same flow with full precision, is no evidence for quantized weights."""
        stand(quantized)
        cells = ("sft-peft-config[qwen2-nf4-gc]", trains)
        assert gate_command(asked(after="trl0.23", flows=(), cells=cells)) is GateExit.COULD_NOT_TELL
        assert {cell["change"]: cell["effect"] for cell in answer(tmp_path)["cells"]} == {
            "inconclusive": "COULD NOT TELL",
            "unchanged": "ALLOW",
        }
        assert answer(tmp_path)["reason"] == (
            "1 cell of sft-peft-config ends in an error before training, on both sides: "
            "Transformers before 4.53 does not load quantized weights on a CPU (cpu-quantization)."
        )
        out = " ".join(capsys.readouterr().out.split())
        assert "To do: Run it on a GPU. Without one, quantized weights need bitsandbytes 0.47 or later" in out

    def test_a_flow_that_the_policy_compares_if_named(self, stand: Callable[[Cell], list[str]], tmp_path: Path) -> None:
        """It fails alike on both sides, and leaves other answers alone. Named, it is the answer."""

        def refused(plan: Plan, cell: PlannedCell, trl: str) -> Observation:
            seen = b.healthy(cell.flow, cell.variant, stack=plan.stack, versions={**b.VERSIONS, "trl": trl})
            named = cell.flow == "dpo-adapter-named"
            return b.failed(seen, "KeyError", "'default'", Stage.TRAINER) if named else seen

        stand(refused)
        [policy] = load_policy(load_ledger()).only_if_named
        assert gate_command(asked(after="trl==0.23.1", flows=())) is GateExit.ALLOW
        assert answer(tmp_path)["left_out"] == [policy]
        assert gate_command(asked(after="trl==0.23.1", flows=(policy,))) is GateExit.COULD_NOT_TELL

    def test_a_flow_that_neither_side_has_allows_nothing(
        self, stand: Callable[[Cell], list[str]], tmp_path: Path
    ) -> None:
        """The flow was requested by name, and TRL before 0.8 has none of its cells."""
        stand(ending("", "", Stage.LOAD))
        given = asked("trl0.4", "trl0.5", flows=("sft-full", "rft-all-linear"))
        assert gate_command(given) is GateExit.COULD_NOT_TELL
        assert answer(tmp_path)["reason"] == "1 cell of rft-all-linear could not be compared: neither side has it."
        (cell,) = (cell for cell in answer(tmp_path)["cells"] if cell["flow"] == "rft-all-linear")
        assert cell["again"] == "compat gate --from trl0.4 --to trl0.5 --device cpu --flows rft-all-linear"
        assert gate_command(asked("trl0.4", "trl0.5", flows=("sft-full",))) is GateExit.ALLOW


class TestOutput:
    def test_json_is_alone_on_stdout(
        self, stand: Callable[[Cell], list[str]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """Everything else goes to stderr."""
        stand(flagship)
        assert gate_command(asked(as_json=True)) is GateExit.BLOCK
        out, err = capfd.readouterr()
        assert out == (tmp_path / "gate" / "gate.json").read_text()
        assert "does trl 0.23.1 pass?" in err

    def test_the_baselines_speak_first_and_block_is_said_in_time(
        self, stand: Callable[[Cell], list[str]], capfd: pytest.CaptureFixture[str]
    ) -> None:
        """Both before the search for a safe release."""
        stand(flagship)
        gate_command(asked())
        err = capfd.readouterr().err
        places = [
            err.index(words) for words in ("BLOCK by the baseline of", "BLOCK is certain: ", "does trl 0.23.1 pass?")
        ]
        assert places == sorted(places)
        assert "peft/utils/other.py:142" in err

    def test_a_gate_that_ends_when_it_is_decided_searches_nothing(
        self, stand: Callable[[Cell], list[str]], tmp_path: Path
    ) -> None:
        """The command says how to get the rest."""
        ran = stand(flagship)
        assert gate_command(asked(until=Until.DECIDED)) is GateExit.BLOCK
        assert len(ran) == 2
        gate = answer(tmp_path)
        assert gate["left_out"] == [flow.name for flow in CATALOG if flow.name not in FLOW]
        assert gate["command"].endswith("--until decided --flows sft-peft-model")

    def test_cells_that_had_not_ended_are_left_out_and_counted(
        self, stand: Callable[[Cell], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """They are not lost to the machine, and the answer says that it does not rest on them."""
        stand(flagship)
        stubbed = stack_run.run_plan

        def stopped(plan: Plan, *given: Any, sharing: Sharing, **how: Any) -> None:
            ended = plan.cells[:2] if plan.stack == "trl0.22-py311" else plan.cells
            stubbed(replace(plan, cells=ended), *given, sharing=sharing, **how)
            write_row(Path(plan.run), StackRow(plan.stack, RowState.RAN, "", tuple(map(plan.id_of, plan.cells))))
            sharing.stop.set()

        monkeypatch.setattr(stack_run, "run_plan", stopped)
        gate_command(asked(until=Until.DECIDED))
        gate = answer(tmp_path)
        assert len(gate["cells"]) == 2
        assert "inconclusive" not in {cell["change"] for cell in gate["cells"]}
        assert gate["left_out"][-1] == f"{CELLS - 2} cells that had not ended"

    def test_a_block_leaves_out_what_says_the_same_on_every_measured_stack(
        self, stand: Callable[[Cell], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And searches a release. The answer counts the cells and says how to run them."""
        ran = stand(flagship)
        stubbed = stack_run.run_plan

        def cut_short(plan: Plan, *given: Any, sharing: Sharing, **how: Any) -> None:
            telling = default_tier().kept(plan.cells, plan.lock_sha256, plan.device)
            assert set(plan.cells[: len(telling)]) == set(telling)  # the cells that tell something come first
            stubbed(replace(plan, cells=plan.cells[: len(telling)]), *given, sharing=sharing, **how)
            if plan.stack in SIDES:
                assert sharing.stop.wait(30)
            write_row(Path(plan.run), StackRow(plan.stack, RowState.RAN, "", tuple(map(plan.id_of, plan.cells))))

        monkeypatch.setattr(stack_run, "run_plan", cut_short)
        assert gate_command(asked()) is GateExit.BLOCK
        gate = answer(tmp_path)
        assert 0 < len(gate["cells"]) < CELLS
        assert gate["left_out"][-1] == (
            f"{CELLS - len(gate['cells'])} cells that say on every measured stack what another one says "
            "(--until complete runs them)"
        )
        assert any("trl0.23-py311" in stack for stack in ran)
        assert "trl 0.23.1 is the first release above" in gate["reason"]

    def test_a_complete_gate_sees_every_cell_of_a_block(
        self, stand: Callable[[Cell], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nothing ends them."""
        stand(flagship)
        stubbed = stack_run.run_plan

        def watched(*given: Any, sharing: Sharing, **how: Any) -> None:
            stubbed(*given, sharing=sharing, **how)
            assert not sharing.stop.wait(1)

        monkeypatch.setattr(stack_run, "run_plan", watched)
        assert gate_command(asked(until=Until.COMPLETE)) is GateExit.BLOCK
        assert len(answer(tmp_path)["cells"]) == CELLS

    def test_a_gate_that_is_never_certain_of_block_sees_every_cell(
        self, stand: Callable[[Cell], list[str]], tmp_path: Path
    ) -> None:
        """ALLOW needs all of them."""
        stand(flagship)
        assert gate_command(asked(after="trl==0.23.1", until=Until.DECIDED)) is GateExit.ALLOW
        assert len(answer(tmp_path)["cells"]) == CELLS

    def test_the_run_is_the_latest(self, stand: Callable[[Cell], list[str]], tmp_path: Path) -> None:
        """`compat report` shows the gate."""
        stand(flagship)
        gate_command(asked(after="trl==0.23.1"))
        assert (tmp_path / "latest").resolve() == tmp_path / "gate"
        assert stored.is_gate("latest")
        assert stored.print_stored("latest") is GateExit.ALLOW

    def test_defaults_are_read_once_for_a_lock(
        self, stand: Callable[[Cell], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Reading them imports the stack."""
        asked_of: list[str] = []

        def ask(stack: Any, *_: object) -> dict[str, dict[str, str]]:
            asked_of.append(stack.name)
            return {"SFTConfig": {"packing": stack.name}}

        stand(flagship)
        monkeypatch.setattr(defaults, "ask", ask)
        gate_command(asked(after="trl==0.23.1"))
        first = answer(tmp_path)["defaults"]
        gate_command(asked(after="trl==0.23.1"))
        assert answer(tmp_path)["defaults"] == first != []
        assert sorted(asked_of) == ["trl0.19-py311", "trl0.23-py311"]


class TestExceptions:
    def with_exception(self, tmp_path: Path, expires: str) -> Path:
        """The policy with trl#3926 accepted until this day."""
        path = tmp_path / "policy.toml"
        lines = ('[[exception]]\nissue = "trl#3926"\nreason = "we hand over the base model"', f"expires = {expires}\n")
        path.write_text("\n".join((POLICY.read_text(), *lines)))
        return path

    def test_a_valid_exception_is_reported(
        self, stand: Callable[[Cell], list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The upgrade is allowed, and every report has the reason."""
        stand(flagship)
        assert gate_command(asked(policy=self.with_exception(tmp_path, "9999-12-31"))) is GateExit.ALLOW
        for text in (capsys.readouterr().out, (tmp_path / "gate" / "gate.md").read_text()):
            assert "we hand over the base model" in text

    def test_an_expired_exception_does_not_apply_and_is_named(
        self, stand: Callable[[Cell], list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The report explains why the gate did not allow."""
        stand(flagship)
        assert gate_command(asked(policy=self.with_exception(tmp_path, "2020-01-01"), candidates=0)) is GateExit.BLOCK
        assert "Expired: we hand over the base model (2020-01-01)." in " ".join(capsys.readouterr().out.split())


class TestExitCodes:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                {"flows": ("sft-peft",)},
                (
                    "--flows: there is no flow 'sft-peft'\n"
                    "Names that look like it: sft-peft-model, sft-defaults, sft-peft-config.\n"
                    f"The flows are {FLOWS}; an example of a cell is sft-peft-config[qwen2-nf4-gc].\n"
                ),
            ),
            (
                {"flows": (), "cells": ("sft",)},
                (
                    "--cell: there is no cell 'sft'\nNo name looks like it.\n"
                    f"The flows are {FLOWS}; an example of a cell is sft-peft-config[qwen2-nf4-gc].\n"
                ),
            ),
            (
                {"python": "3.9"},
                (
                    "matrices/stacks.toml: trl0.19 is not locked for Python 3.9\nIts row names 3.11, 3.12.\n"
                    "Leave --python out, or name one of these.\n"
                ),
            ),
            (
                {"before": "nonsense"},
                (
                    "--from: 'nonsense' is neither a stack, a pin, a file nor an interpreter\n"
                    "No stack of matrices/stacks.toml looks like it.\n"
                    "A side is a stack (trl0.22), pins (trl==0.22.2), latest, a project folder, a lock or requirements "
                    "file, or the path of an interpreter or a virtual environment.\n"
                ),
            ),
            (
                {"upgrade": ("trl",)},
                (
                    "compat gate: --to and --upgrade exclude each other\n"
                    "--to names the other versions; --upgrade names packages that move in the versions of --from.\n"
                    "Give one of them: compat gate --from uv.lock --upgrade trl.\n"
                ),
            ),
            (
                {"cached": True, "fresh": True},
                (
                    "compat gate: --cached and --fresh exclude each other\n"
                    "--cached starts nothing; --fresh also runs what is cached.\nLeave one of them out.\n"
                ),
            ),
            (
                {"policy": Path("none.toml")},
                (
                    "none.toml: 1 fault\n  cannot be read: No such file or directory\n"
                    "Correct each of these places; the file's own comments say what they hold.\n"
                ),
            ),
        ],
    )
    def test_bad_input_is_4(
        self,
        stand: Callable[[Cell], list[str]],
        options: dict[str, Any],
        message: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """It is refused with one message before anything runs. More bad input is in `test_bad_input`."""
        ran = stand(flagship)
        assert gate_command(asked(**options)) is GateExit.BAD_INPUT
        assert (*capsys.readouterr(), ran) == ("", message, [])

    @pytest.mark.parametrize(
        ("error", "message"),
        [
            (RegistryUnreachable("the registry is out of reach", where="trl0.19"), "trl0.19: the registry"),
            (OSError(28, "No space left on device", "/envs"), "/envs: No space left on device"),
            (ZeroDivisionError("a bug"), "Traceback"),
        ],
    )
    def test_every_other_error_is_3(
        self,
        stand: Callable[[Cell], list[str]],
        error: Exception,
        message: str,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """An infrastructure failure and an internal error give HOLD; Python's own exit code would be misread."""
        stand(flagship)

        def fail(lock: Lock) -> None:
            raise error

        monkeypatch.setattr(sides, "environment_of", fail)
        assert gate_command(asked()) is GateExit.COULD_NOT_TELL
        assert message in capsys.readouterr().err

    def test_a_stack_without_readable_defaults_changes_no_decision(
        self, stand: Callable[[Cell], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The report says so."""
        stand(flagship)

        def fail(*_: Any) -> None:
            raise StackFailed("no answer", where="trl0.23-py311")

        monkeypatch.setattr(defaults, "ask", fail)
        assert gate_command(asked(after="trl0.23")) is GateExit.ALLOW
        assert answer(tmp_path)["defaults_unknown"] == "trl0.23-py311: no answer"
        assert os.environ["COMPAT_RUN_ID"] == "gate"
