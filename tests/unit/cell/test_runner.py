"""The runner: every outcome of a stack becomes an observation, and an observation is one line."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import os
import platform
import sys
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from builders import FULL, INT8, NF4, NF4_BF16, NF4_PLAIN, UNLISTED, VERSIONS, healthy, real
from finetune_compat import __version__
from finetune_compat.cell import runner
from finetune_compat.cell.runner import Facts, append, emulated, failure, mark_started, run_cell
from finetune_compat.checks import Outcome
from finetune_compat.contract import catalog
from finetune_compat.contract.cell_id import CellId
from finetune_compat.contract.plan import Plan, PlannedCell
from finetune_compat.contract.records import (
    CENSUS_STAGES,
    Absence,
    Attention,
    DeviceKind,
    Failure,
    Frame,
    Message,
    Observation,
    Stage,
    Started,
    Variant,
)
from finetune_compat.results.run_files import judge_one, read_observations

CELL = PlannedCell("sft-peft-model", NF4, ())


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A plan of one cell on a CPU, in an environment that holds the stack and more."""
    monkeypatch.setattr(runner, "installed_versions", lambda: {**VERSIONS, "numpy": "2.3.2"})
    return Plan(
        str(tmp_path), "trl0.24-py311", "5f" * 32, "2.13.0", True, DeviceKind.CPU, "sdpa", 10, 17, 60.0, (CELL,)
    )


def executing(monkeypatch: pytest.MonkeyPatch, facts: Facts) -> list[tuple[Any, ...]]:
    """Running the flow yields these facts; collects what was requested."""
    asked: list[tuple[Any, ...]] = []

    def execute(*given: Any) -> Facts:
        asked.append(given)
        return facts

    stand_in: Any = ModuleType("finetune_compat.cell.execution")
    stand_in.execute = execute
    monkeypatch.setitem(sys.modules, "finetune_compat.cell.execution", stand_in)
    return asked


# -------------------------------------------------------------------------------------------- stacks that do not import


def broken(monkeypatch: pytest.MonkeyPatch, folder: Path, line: str) -> None:
    """The first import of the stack runs this line."""
    site = folder / "site-packages"
    site.mkdir(parents=True)
    (site / "torch.py").write_text(f"{line}\n", encoding="utf-8")
    monkeypatch.syspath_prepend(site)
    for name in ("torch", "finetune_compat.cell.execution"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.parametrize(
    ("line", "kind", "message"),
    [
        ("raise ImportError('libcudart.so.13: no such file')", "ImportError", "libcudart.so.13: no such file"),
        ("raise RuntimeError('operator does not exist')", "RuntimeError", "operator does not exist"),
        ("import a_module_there_is_not", "ModuleNotFoundError", "No module named 'a_module_there_is_not'"),
        ("1 +", "SyntaxError", "invalid syntax (torch.py, line 1)"),
    ],
)
def test_a_stack_that_cannot_be_imported_is_an_observation(
    plan: Plan,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    line: str,
    kind: str,
    message: str,
) -> None:
    """It has the error and no stage reached; it is judged as failed, by F001."""
    broken(monkeypatch, tmp_path / "env", line)
    seen = run_cell(plan, CELL)
    assert seen.error is not None
    assert (seen.error.type, seen.error.message, seen.error.stage) == (kind, message, Stage.IMPORT)
    assert {absent.name: absent.reason for absent in seen.absent} == dict.fromkeys(CENSUS_STAGES, Absence.NOT_REACHED)
    assert (seen.stages, seen.freezes, seen.training, seen.labels) == ((), (), None, None)
    verdict = judge_one(seen, UNLISTED)
    assert (verdict.outcome, verdict.failing) == (Outcome.FAIL, ("F001",))
    assert verdict.reason == f"not listed: F001 {kind} at import: {message}"


def test_an_error_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """This holds even if the message is cut inside a secret."""
    monkeypatch.setenv("HF_TOKEN", "Zq7xW2vKp9env")
    told = runner.failure(ValueError(f"Zq7xW2vKp9env, token=abc {'x' * runner.LONGEST_ERROR}"), Stage.LOAD).message
    assert told.startswith("REDACTED, token=REDACTED x")
    told = runner.failure(ValueError(f"{'x' * (runner.LONGEST_ERROR - 4)} Zq7xW2vKp9env"), Stage.LOAD).message
    assert told == f"{'x' * (runner.LONGEST_ERROR - 4)} RED"


def test_an_import_error_names_the_librarys_line(plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As every other error does."""
    broken(monkeypatch, tmp_path / "env", "raise ImportError('gone')")
    seen = run_cell(plan, CELL)
    assert seen.error is not None
    assert seen.error.frames == (Frame("torch.py", 1, "<module>", "raise ImportError('gone')"),)


# -------------------------------------------------------------------------------------------------- what is observed


def test_an_observation_joins_what_was_known_with_what_came_to_light(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every field of the facts and every field of the plan that an observation has is there."""
    story = healthy()
    fields = {field.name for field in dataclasses.fields(Facts)} - {"attention_used"}
    given = {name: getattr(story, name) for name in fields} | {
        "options_dropped": ("loss_type",),
        "warnings": (Message(Stage.LOAD, "UserWarning", "slow", 1),),
        "error": Failure("RuntimeError", "x", Stage.RELOAD, ()),
    }
    asked = executing(monkeypatch, Facts(**given, attention_used="eager"))
    seen = run_cell(plan, CELL)
    assert asked == [(plan, CELL, catalog.flow_named("sft-peft-model"))]
    assert {name: getattr(seen, name) for name in fields} == given
    assert seen.attention == Attention(asked="sdpa", used="eager")
    assert (seen.cell, seen.flow, seen.variant, seen.seed) == (
        "trl0.24-py311/sft-peft-model[qwen2-nf4-gc]@cpu",
        "sft-peft-model",
        NF4,
        17,
    )
    assert (seen.model, seen.lora) == (catalog.MODELS["qwen2"].shape, catalog.LORA)
    assert (seen.stack.name, seen.stack.lock_sha256) == ("trl0.24-py311", "5f" * 32)
    assert (seen.stack.torch_wanted, seen.stack.base_torch) == ("2.13.0", True)
    assert seen.stack.python == platform.python_version()
    assert seen.harness_version == __version__
    assert datetime.datetime.fromisoformat(seen.started_at).tzinfo == datetime.UTC


def test_real_weights_have_no_shape_and_the_sizes_that_came_to_light(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real weights have the LoRA configuration of text models, under any name."""
    story = real()
    executing(monkeypatch, Facts(absent=(), sizes=story.sizes))
    planned = PlannedCell("sft-peft-model", story.variant, ())
    seen = run_cell(dataclasses.replace(plan, model="/weights/tied-llama", cells=(planned,)), planned)
    assert (seen.model, seen.sizes, seen.lora) == (None, story.sizes, catalog.LORA)
    assert seen.cell == "trl0.24-py311/sft-peft-model[tied-llama-nf4-gc]@cpu"


def test_only_the_stacks_versions_are_reported(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """All other versions are in the lock."""
    executing(monkeypatch, Facts(absent=()))
    assert run_cell(plan, CELL).stack.resolved == VERSIONS


def test_a_flow_that_trains_the_whole_model_has_no_adapter(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its counts are not compared with an adapter's."""
    executing(monkeypatch, Facts(absent=()))
    assert run_cell(plan, PlannedCell("sft-full", FULL, ())).lora is None


@pytest.mark.parametrize(
    ("device", "variant", "presented"),
    [
        (DeviceKind.CPU, NF4, DeviceKind.CUDA),
        (DeviceKind.CPU, NF4_BF16, DeviceKind.CUDA),
        (DeviceKind.CPU, NF4_PLAIN, None),
        (DeviceKind.CPU, INT8, None),
        (DeviceKind.CPU, FULL, None),
        (DeviceKind.CUDA, NF4, None),
    ],
)
def test_only_four_bit_weights_on_a_cpu_present_an_accelerator(
    device: DeviceKind, variant: Variant, presented: DeviceKind | None
) -> None:
    """nf4-plain cells, which sit on the CPU openly, do not."""
    assert emulated(device, variant.precision) is presented


def test_installed_versions_are_those_of_this_environment_by_normalized_name() -> None:
    """Locks and the ledger spell names the same way."""
    runner.installed_versions.cache_clear()
    found = runner.installed_versions()
    assert found["pytest"] == importlib.metadata.version("pytest")
    assert all(name == name.lower() and "_" not in name for name in found)


def test_a_very_long_error_is_cut() -> None:
    """Some libraries put a whole configuration into an error."""
    assert failure(ValueError("x" * 5000), Stage.TRAINER) == Failure("ValueError", "x" * 2000, Stage.TRAINER, ())


# --------------------------------------------------------------------------------------------------------- writing down


def test_a_record_is_one_line_in_one_write(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parallel sessions append to one file; a line written in pieces would be interleaved."""
    writes: list[bytes] = []
    write = os.write

    def noted(handle: int, data: bytes) -> int:
        writes.append(data)
        return write(handle, data)

    monkeypatch.setattr(os, "write", noted)
    seen = dataclasses.replace(healthy(), error=Failure("RuntimeError", "two\nlines\u2028", Stage.TRAINER, ()))
    append(plan, seen)
    append(plan, seen)
    assert [line.count(b"\n") for line in writes] == [1, 1]
    assert (Path(plan.run) / "observations.jsonl").read_bytes() == b"".join(writes)


def test_what_is_appended_is_what_the_host_reads(plan: Plan) -> None:
    """The first line says that a cell started, the second what it observed, both with the same id."""
    cell = str(CellId("trl0.24-py311", "sft-peft-model", str(NF4), DeviceKind.CPU))
    mark_started(plan, CELL)
    started, observed = read_observations(Path(plan.run) / "observations.jsonl")
    assert (list(started), observed) == ([cell], {})
    assert isinstance(started[cell], Started)
    append(plan, healthy())
    _, observed = read_observations(Path(plan.run) / "observations.jsonl")
    assert observed == {cell: healthy()}
    assert isinstance(observed[cell], Observation)


@pytest.mark.parametrize("fails", [False, True])
def test_a_cell_leaves_the_environment_variables_as_they_were(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, *, fails: bool
) -> None:
    """A training in bfloat16 sets a variable that the next cell of the process would read."""
    monkeypatch.setenv("SET_BEFORE", "1")
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)

    def execute(*_: Any) -> Facts:
        os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16"
        os.environ["SET_BEFORE"] = "2"
        if fails:
            raise RuntimeError("no CUDA device")
        return Facts(absent=())

    stand_in: Any = ModuleType("finetune_compat.cell.execution")
    stand_in.execute = execute
    monkeypatch.setitem(sys.modules, "finetune_compat.cell.execution", stand_in)
    with pytest.raises(RuntimeError) if fails else nullcontext():
        run_cell(plan, CELL)
    assert "ACCELERATE_MIXED_PRECISION" not in os.environ
    assert os.environ["SET_BEFORE"] == "1"
