"""The plugin of a cell process, in a pytest subprocess: with stand-ins for the cells, and without torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from builders import NF4, UNLISTED
from finetune_compat.checks import Outcome
from finetune_compat.contract.catalog import cells_on
from finetune_compat.contract.plan import Plan, PlannedCell
from finetune_compat.contract.records import DeviceKind, EndCause, Precision, Variant
from finetune_compat.machine.places import PACKAGE
from finetune_compat.results.run_files import judged, read_observations, write_row
from finetune_compat.run.stack_run import _row

ROOT = PACKAGE.parents[1]

FLOWS = ("sft-peft-config", "sft-peft-model", "trainer-peft-model")
CELLS = tuple(PlannedCell(flow, NF4, ()) for flow in FLOWS)
NAMES = [f"{flow}[qwen2-nf4-gc]" for flow in FLOWS]
IDS = [f"trl0.24-py311/{name}@cpu" for name in NAMES]

CELL = """
import os, time
import builders
from finetune_compat.cell import runner
from finetune_compat.contract.catalog import cells_on
from finetune_compat.contract.plan import Plan, PlannedCell

def test_flow(plan: Plan, planned: PlannedCell) -> None:
    runner.mark_started(plan, planned)
    if planned.flow == "sft-peft-model":
        {fate}
    runner.append(plan, builders.healthy(planned.flow, planned.variant, stack=plan.stack))
"""
"""finetune_compat/cell/session/test_flows.py, with an outcome in place of a flow."""


def planned(
    run: Path,
    cells: tuple[PlannedCell, ...] = CELLS,
    limit_s: float = 60.0,
    memory_limit: int | None = None,
    device: DeviceKind = DeviceKind.CPU,
) -> Plan:
    """A plan of these cells, and its file."""
    plan = Plan(
        *(str(run), "trl0.24-py311", "5f" * 32, "2.13.0", False, device, "sdpa", 10, 0, limit_s, cells),
        memory_limit=memory_limit,
    )
    run.mkdir(exist_ok=True)
    (run / "plan.json").write_text(plan.to_json(), encoding="utf-8")
    return plan


@pytest.fixture
def cells(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A pytest that runs as in a session, separate from the tests' own, possibly in a worker."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "harness"), str(ROOT / "tests" / "unit")]))
    for name in [name for name in os.environ if name.startswith(("PYTEST_XDIST", "PYTEST_ADDOPTS"))]:
        monkeypatch.delenv(name)
    return pytester


def run(cells: pytest.Pytester, plan: Plan, *arguments: str, fate: str = "pass") -> pytest.RunResult:
    """Run the cells of `plan`; the second one has this outcome."""
    file = cells.makepyfile(test_flows=CELL.format(fate=fate))
    return cells.runpytest_subprocess(*_configured(), "--plan", f"{plan.run}/plan.json", *arguments, str(file))


def _configured() -> Sequence[str]:
    return ("-c", str(PACKAGE / "cell" / "session" / "pytest.ini"), "-p", "finetune_compat.cell.plugin")


def selected(plan: Plan) -> list[str]:
    """Ids of the selected cells, as the host reads them."""
    return plan.selected_file.read_text(encoding="utf-8").splitlines()


def outcomes(plan: Plan, status: int) -> dict[str, Outcome]:
    """The host's verdicts on the run that ended with this status."""
    write_row(Path(plan.run), _row(plan, status, ()))
    return {verdict.cell: verdict.outcome for verdict in judged(Path(plan.run), UNLISTED).verdicts}


# ------------------------------------------------------------------------------------------------------------ the plan


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [((), "no plan file was named"), (("--plan", "/nowhere/plan.json"), "no plan file at /nowhere/plan.json")],
)
def test_without_a_plan_there_is_one_usage_error(
    cells: pytest.Pytester, arguments: tuple[str, ...], problem: str
) -> None:
    """The message says what is missing and who writes it, without a traceback."""
    result = cells.runpytest_subprocess(*_configured(), *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    [said] = [line for line in result.errlines if line]
    assert said == f"ERROR: --plan: {problem}. Cells are run by nox: nox -s \"compat-3.11(trl='0.22')\""


def test_every_planned_cell_is_one_test_with_its_name(cells: pytest.Pytester, tmp_path: Path) -> None:
    """The tests are in the order of the plan, with the usual names."""
    result = run(cells, planned(tmp_path / "run"), "--collect-only", "-q")
    assert result.ret == pytest.ExitCode.OK
    tests = [line.partition("::")[2] for line in result.outlines if "::" in line]
    assert tests == [f"test_flow[{name}]" for name in NAMES]


def test_a_cell_is_recorded_and_the_host_reads_it(cells: pytest.Pytester, tmp_path: Path) -> None:
    """Plan, process, observations and verdicts agree."""
    plan = planned(tmp_path / "run")
    result = run(cells, plan)
    result.assert_outcomes(passed=3)
    assert outcomes(plan, result.ret) == dict.fromkeys(IDS, Outcome.PASS)


# ----------------------------------------------------------------------------------------------------------- selection


@pytest.mark.parametrize("workers", ["0", "2"])
def test_the_selection_is_written_after_k_has_been_applied(
    cells: pytest.Pytester, tmp_path: Path, workers: str
) -> None:
    """This holds with and without workers: the controller collects nothing and must not overwrite the workers' file."""
    plan = planned(tmp_path / "run")
    result = run(cells, plan, "-n", workers, "-k", "sft and not config")
    result.assert_outcomes(passed=1, deselected=0 if workers == "2" else 2)
    assert selected(plan) == [IDS[1]]
    assert [path.name for path in plan.selected_file.parent.iterdir()] == ["trl0.24-py311.txt"]


def test_a_selection_that_matches_nothing_is_written_too(cells: pytest.Pytester, tmp_path: Path) -> None:
    """An empty selection differs from a process that never selected."""
    plan = planned(tmp_path / "run")
    assert run(cells, plan, "-k", "nowhere").ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert selected(plan) == []


def test_a_process_that_cannot_collect_selects_nothing(cells: pytest.Pytester, tmp_path: Path) -> None:
    """The host then reports that nothing was selected."""
    plan = planned(tmp_path / "run")
    file = cells.makepyfile(test_flows="import a_module_there_is_not\ndef test_flow(planned): ...")
    result = cells.runpytest_subprocess(*_configured(), "--plan", f"{plan.run}/plan.json", str(file))
    assert not plan.selected_file.exists()
    assert outcomes(plan, result.ret) == {"trl0.24-py311": Outcome.INFRASTRUCTURE}


# ------------------------------------------------------------------------------------------------------- lost processes


@pytest.mark.parametrize("fork", [False, True])
@pytest.mark.parametrize(
    ("fate", "limit_s"),
    [("os._exit(139)", 60.0), ("time.sleep(60)", 2.0), ("[os.kill(os.getpid(), 19) for _ in iter(int, 1)]", 2.0)],
)
def test_a_worker_that_crashes_hangs_or_is_stopped_loses_its_cell_alone(
    cells: pytest.Pytester, tmp_path: Path, fate: str, limit_s: float, *, fork: bool
) -> None:
    """The worker is replaced, other cells are unaffected, and the lost cell is an infrastructure failure.

    The stopped one stops itself for ever: a kernel continues the stopped processes of an orphaned process group.
    """
    plan = planned(tmp_path / "run", limit_s=limit_s)
    forked = ("--fork-after", "pytest") if fork else ()
    result = run(cells, plan, "-n", "1", "--max-worker-restart=3", *forked, fate=fate)
    result.assert_outcomes(passed=2, failed=1)
    assert selected(plan) == IDS
    assert outcomes(plan, result.ret) == {
        IDS[0]: Outcome.PASS,
        IDS[1]: Outcome.INFRASTRUCTURE,
        IDS[2]: Outcome.PASS,
    }


HOARD = "held = bytearray(1 << 30); time.sleep(60)"
"""Fill a gigabyte of zeroes page by page; the process is ended long before a minute is over."""


@pytest.mark.parametrize("forked", [(), ("--fork-after", "pytest")])
def test_a_worker_that_holds_too_much_memory_is_ended_and_its_cell_alone(
    cells: pytest.Pytester, tmp_path: Path, forked: tuple[str, ...]
) -> None:
    """The file has the reason and the amount; other cells are unaffected. A forked worker is not the process that
    xdist started.
    """
    limit = 400 * 2**20
    plan = planned(tmp_path / "run", memory_limit=limit)
    result = run(cells, plan, "-n", "1", "--max-worker-restart=3", *forked, fate=HOARD)
    result.assert_outcomes(passed=2, failed=1)
    assert outcomes(plan, result.ret)[IDS[1]] is Outcome.INFRASTRUCTURE
    started, _ = read_observations(Path(plan.run) / "observations.jsonl")
    end = started[IDS[1]].end
    assert end is not None and end.cause is EndCause.MEMORY and end.resident_bytes > limit


def test_without_workers_memory_is_not_limited_and_a_message_says_so(cells: pytest.Pytester, tmp_path: Path) -> None:
    """A single process, which a debugger needs, would end itself and lose its report."""
    result = run(cells, planned(tmp_path / "run", memory_limit=2**20), "-n", "0")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["the memory limit does not apply: there is no worker (-n 0)"])


def test_the_limit_is_for_one_cell_and_not_for_all(cells: pytest.Pytester, tmp_path: Path) -> None:
    """Neither the sum of the cells nor memory after the last cell counts."""
    plan = planned(tmp_path / "run", limit_s=1.2)
    file = cells.makepyfile(
        test_flows="""
            import time
            def test_flow(planned): time.sleep(0.5)
            def teardown_module(): time.sleep(1.5)
            """
    )
    result = cells.runpytest_subprocess(*_configured(), "--plan", f"{plan.run}/plan.json", str(file))
    result.assert_outcomes(passed=3)


# ------------------------------------------------------------------------------------------------------- more workers

MANY = tuple(PlannedCell(flow.name, variant, ()) for flow, variant in cells_on(DeviceKind.CPU)[:40])

NAMES_ITS_WORKER = """
import os
import time
from pathlib import Path

LOG = Path(__file__).with_name("ran")

def workers():
    return {line.split(" ", 1)[0] for line in LOG.read_text().splitlines()}

def test_flow(plan, planned):
    with LOG.open("a") as file:
        file.write(f"{os.environ['PYTEST_XDIST_WORKER']} {os.getppid()} {planned}\\n")
    end = time.monotonic() + PATIENCE
    while len(workers()) < 2 and time.monotonic() < end:
        time.sleep(0.05)
"""
"""Cells that wait as long as PATIENCE for a second worker to have one."""


def who_ran(cells: pytest.Pytester, plan: Plan, *arguments: str, patience: float) -> list[list[str]]:
    """Worker, the worker's parent, and cell of everything that ran."""
    file = cells.makepyfile(test_flows=NAMES_ITS_WORKER.replace("PATIENCE", f"{patience}"))
    result = cells.runpytest_subprocess(
        *_configured(), "--plan", f"{plan.run}/plan.json", "-n", "1", "--maxschedchunk=1", *arguments, str(file)
    )
    result.assert_outcomes(passed=len(plan.cells))
    log = file.with_name("ran").read_text(encoding="utf-8")
    return [line.split(" ", 2) for line in log.splitlines()]


def allow(plan: Plan, workers: int) -> None:
    """Do as the host when cores are idle."""
    plan.workers_file.parent.mkdir()
    plan.workers_file.write_text(f"{workers}", encoding="utf-8")


@pytest.mark.parametrize("forked", [True, False])
def test_workers_join_as_many_as_the_host_allows(cells: pytest.Pytester, tmp_path: Path, *, forked: bool) -> None:
    """Each cell runs once. Forked workers have one parent, which is not the process that distributes the cells."""
    plan = planned(tmp_path / "run", MANY)
    allow(plan, 3)
    more = ("--fork-after", "pytest,finetune_compat.checks") if forked else ()
    ran = who_ran(cells, plan, "--joining", *more, patience=60)
    assert sorted(cell for _, _, cell in ran) == sorted(map(str, MANY))
    assert {worker for worker, _, _ in ran} <= {"gw0", "gw1", "gw2"}
    assert len({worker for worker, _, _ in ran}) > 1
    assert len({parent for _, parent, _ in ran}) == 1
    assert selected(plan) == [plan.id_of(cell) for cell in MANY]


@pytest.mark.parametrize(("allowed", "arguments"), [(1, ("--joining",)), (2, ())])
def test_none_joins_unless_it_is_allowed(
    cells: pytest.Pytester, tmp_path: Path, allowed: int, arguments: tuple[str, ...]
) -> None:
    """The host knows whether other stacks need the core."""
    plan = planned(tmp_path / "run", MANY[:10])
    allow(plan, allowed)
    ran = who_ran(cells, plan, *arguments, patience=0)
    assert [worker for worker, _, _ in ran] == ["gw0"] * 10


# ---------------------------------------------------------------------------------------------------------------- GPUs


def test_a_lost_workers_cells_run_on_its_own_gpu(
    cells: pytest.Pytester, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With real workers, each sees one GPU at its start, and never one that another uses."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-5f,GPU-6a")
    plan = planned(tmp_path / "run", device=DeviceKind.CUDA)
    file = cells.makepyfile(
        test_flows="""
            import os
            import time
            from pathlib import Path

            name = os.environ["PYTEST_XDIST_WORKER"]
            with Path(__file__).with_name(os.environ["CUDA_VISIBLE_DEVICES"]).open("a") as seen:
                seen.write(f"{name} ")

            def test_flow(planned):
                if name == "gw1":
                    os._exit(139)
                # Had this worker ended before, its GPU would be free as well.
                while not any("gw2" in gpu.read_text() for gpu in Path(__file__).parent.glob("GPU-*")):
                    time.sleep(0.05)
            """
    )
    cells.runpytest_subprocess(
        *_configured(), "--plan", f"{plan.run}/plan.json", "-n", "2", "--max-worker-restart=3", str(file)
    )
    seen = {gpu: file.with_name(gpu).read_text(encoding="utf-8").split() for gpu in ("GPU-5f", "GPU-6a")}
    assert seen == {"GPU-5f": ["gw0"], "GPU-6a": ["gw1", "gw2"]}


def test_cells_of_every_kind_have_names_that_differ() -> None:
    """-k and the reports use the name of a test."""
    variants = [Variant(m, p, gc) for m in ("qwen2", "llama") for p in Precision for gc in (True, False)]
    names = {str(PlannedCell("sft-full", variant, ())) for variant in variants}
    assert len(names) == len(variants)
