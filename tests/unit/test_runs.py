"""Running one stack: options, device, the cells' process, and the row that is written after it. No cell runs here."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import builders as b
import pytest
from builders import LISTED, UNLISTED, VERSIONS, frozen, healthy, on_trl
from test_locks import plan as lock_plan

from harness import catalog, runs
from harness.checks import Outcome
from harness.errors import CompatError, ExitCode
from harness.ledger import Ledger
from harness.locks import Lock
from harness.matrix import ROOT, LockPlan
from harness.plan import Plan, PlannedCell, read_plan
from harness.records import DeviceKind, Observation, to_json
from harness.results import RowState, StackRow, judged, read_rows
from harness.runs import DeviceChoice, Options, parse_options

ENV = Path("/env/bin/python")
PLAN = Path("/runs/one/plans/trl0.22-py311.json")
STACK = "trl0.22-py311"


# ------------------------------------------------------------------------------------------------------------- options


def test_without_arguments_a_cell_has_its_usual_length_and_limit() -> None:
    """Ten steps, two minutes, whatever device there is."""
    assert parse_options(()) == Options(
        DeviceChoice.AUTO, "sdpa", 10, 120.0, faults=False, closed_forms=False, overhead=False, pytest=()
    )


def test_our_options_are_taken_out_and_the_rest_stays_in_order() -> None:
    """pytest gets what is not ours, as it was typed."""
    given = ("-k", "nf4 and not llama", "--steps", "20", "-x", "--device=cuda", "--limit", "7.5", "--lf")
    assert parse_options(given) == Options(
        DeviceChoice.CUDA,
        "sdpa",
        20,
        7.5,
        faults=False,
        closed_forms=False,
        overhead=False,
        pytest=("-k", "nf4 and not llama", "-x", "--lf"),
    )


def test_what_is_run_in_place_of_the_cells_is_an_option_too() -> None:
    """Planted faults, closed forms against real models, or the recorder's cost."""
    assert parse_options(("--closed-forms",)).closed_forms and not parse_options(("--faults",)).closed_forms
    assert parse_options(("--faults",)).faults and not parse_options(("--faults",)).overhead
    assert parse_options(("--overhead",)).overhead and not parse_options(("--overhead",)).faults


def test_the_beginning_of_an_option_is_not_ours() -> None:
    """`--fault` or `--dev` may be an option of some pytest plugin."""
    assert parse_options(("--fault", "--dev", "cpu")).pytest == ("--fault", "--dev", "cpu")


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        # Python 3.12 and later name the choices without quotes.
        (("--device", "tpu"), r"argument --device: invalid choice: 'tpu' \(choose from '?auto'?, '?cpu'?, '?cuda'?\)"),
        (("--steps", "ten"), r"argument --steps: invalid int value: 'ten'"),
        (("--steps", "2.5"), r"argument --steps: invalid int value: '2\.5'"),
        (("--limit", "long"), r"argument --limit: invalid float value: 'long'"),
        (("-x", "--limit"), r"argument --limit: expected one argument"),
    ],
)
def test_a_value_that_is_none_is_bad_input(given: tuple[str, ...], problem: str) -> None:
    """What is wrong, where, and what becomes of the rest."""
    with pytest.raises(CompatError) as raised:
        parse_options(given)
    assert raised.value.exit_code is ExitCode.BAD_INPUT
    wanted = rf"arguments after --: {problem}\nCorrect it; what is not ours is handed to pytest as it is\."
    assert re.fullmatch(wanted, str(raised.value))


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (("--steps", "1"), "--steps 1 --limit 120"),
        (("--steps=-1",), "--steps -1 --limit 120"),
        (("--limit", "0"), "--steps 10 --limit 0"),
        (("--limit=-0.5", "--steps", "3"), "--steps 3 --limit -0.5"),
    ],
)
def test_too_few_steps_and_no_time_are_bad_input(given: tuple[str, ...], what: str) -> None:
    """With the reason: a step less and half of an adapter has nothing to receive."""
    with pytest.raises(CompatError) as raised:
        parse_options(given)
    assert raised.value.exit_code is ExitCode.BAD_INPUT
    assert str(raised.value) == (
        f"arguments after --: {what}\n"
        "Before step 2 half of a LoRA adapter has no gradient to receive; a limit is in seconds.\n"
        "Ask for 2 steps or more, and for a limit above 0."
    )


# -------------------------------------------------------------------------------------------------------------- device


def gpus(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A machine with that many GPUs."""
    monkeypatch.setattr(runs, "visible_gpus", lambda: number)


@pytest.mark.parametrize(
    ("given", "there", "chosen"),
    [
        ((), 0, DeviceKind.CPU),
        ((), 2, DeviceKind.CUDA),
        (("--device", "auto"), 1, DeviceKind.CUDA),
        (("--device", "cpu"), 1, DeviceKind.CPU),
        (("--device", "cuda"), 1, DeviceKind.CUDA),
    ],
)
def test_a_gpu_that_is_there_is_used_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...], there: int, chosen: DeviceKind
) -> None:
    """Never the other way round."""
    gpus(monkeypatch, there)
    assert runs.chosen_device(given) is chosen


def test_a_gpu_that_is_asked_for_and_is_not_there_is_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is installed for it."""
    gpus(monkeypatch, 0)
    with pytest.raises(CompatError) as raised:
        runs.chosen_device(("--device=cuda",))
    assert raised.value.exit_code is ExitCode.BAD_INPUT
    assert str(raised.value) == (
        "arguments after --: --device cuda, and there is no NVIDIA GPU to be seen\n"
        "There is no /dev/nvidia0, or CUDA_VISIBLE_DEVICES hides it.\n"
        "Ask for --device cpu, or for auto, which takes a GPU where there is one."
    )


@pytest.mark.parametrize(
    ("visible", "counted"), [(None, 2), ("", 0), ("0", 1), ("1,0", 2), ("0,", 1), ("GPU-5f,GPU-6a", 2), ("0,1,2", 2)]
)
def test_gpus_are_counted_without_torch(monkeypatch: pytest.MonkeyPatch, visible: str | None, counted: int) -> None:
    """Device files, or what CUDA_VISIBLE_DEVICES leaves of them; control files are no GPUs."""
    files = [Path("/dev") / name for name in ("nvidia0", "nvidia1", "nvidia0-caps", "nvidiactl")]
    monkeypatch.setattr(runs, "Path", lambda _: SimpleNamespace(glob=lambda _: files))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible or "")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert runs.visible_gpus() == counted


# --------------------------------------------------------------------------------------------------- the cells' process


def cells_command(monkeypatch: pytest.MonkeyPatch, device: DeviceKind, there: int, *given: str) -> list[str]:
    """The command of a cells' process."""
    gpus(monkeypatch, there)
    return runs._cells_command(ENV, PLAN, device, parse_options(given))


def test_cells_are_run_by_the_environments_own_pytest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every word of it: quiet, since the table is ours, and with what is not ours before the folder."""
    assert cells_command(monkeypatch, DeviceKind.CPU, 0, "-k", "nf4", "--steps", "3") == [
        *("/env/bin/python", "-m", "pytest", "-c", "tests/cells/pytest.ini", "--rootdir", str(ROOT)),
        *("-p", "harness.cell.plugin", "--plan", "/runs/one/plans/trl0.22-py311.json"),
        *("-n", "1", f"--max-worker-restart={len(catalog.cells_on(DeviceKind.CPU))}"),
        *("-q", "--no-header", "--no-summary", "--tb=no", "-k", "nf4", "tests/cells"),
    ]


@pytest.mark.parametrize(
    ("device", "there", "workers"),
    [(DeviceKind.CPU, 4, "1"), (DeviceKind.CUDA, 4, "4"), (DeviceKind.CUDA, 1, "1"), (DeviceKind.CUDA, 0, "1")],
)
def test_there_is_one_worker_on_a_cpu_and_one_for_each_gpu(
    monkeypatch: pytest.MonkeyPatch, device: DeviceKind, there: int, workers: str
) -> None:
    """Never none: without a GPU the one worker says that there is none."""
    command = cells_command(monkeypatch, device, there)
    assert command[command.index("-n") + 1] == workers


@pytest.mark.parametrize(
    ("option", "tests"), [("--faults", "tests/mutation/test_faults.py"), ("--closed-forms", "tests/families")]
)
def test_what_runs_in_place_of_the_cells_is_tests_of_their_own(option: str, tests: str) -> None:
    """In the same environment, on the same plan, with what is not ours."""
    assert runs._instead_of_cells(ENV, PLAN, parse_options((option, "-k", "crash"))) == [
        *("/env/bin/python", "-m", "pytest", "-c", "tests/cells/pytest.ini", "--rootdir", str(ROOT)),
        *("-p", "harness.cell.plugin", "--plan", str(PLAN)),
        *("-v", "--no-header", "--tb=short", "-k", "crash", tests),
    ]


def test_the_overhead_has_a_command_of_its_own() -> None:
    """And without any of these options the cells run."""
    overhead = ["/env/bin/python", "tests/benchmarks/overhead.py", str(PLAN)]
    assert runs._instead_of_cells(ENV, PLAN, parse_options(("--overhead",))) == overhead
    assert runs._instead_of_cells(ENV, PLAN, parse_options(("-k", "crash"))) is None


def test_files_that_commands_name_are_there() -> None:
    """They are run from the checkout."""
    others = (parse_options((option,)) for option in ("--faults", "--closed-forms", "--overhead"))
    commands = [
        runs._cells_command(ENV, PLAN, DeviceKind.CPU, parse_options(())),
        *(runs._instead_of_cells(ENV, PLAN, options) or [] for options in others),
    ]
    named = {word for command in commands for word in command if word.startswith("tests/")}
    assert len(named) == 5
    assert all((ROOT / file).exists() for file in named)


def environment(monkeypatch: pytest.MonkeyPatch, device: DeviceKind, **inherited: str) -> dict[str, str]:
    """The environment of a cells' process whose parent has `inherited`."""
    for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name, value in inherited.items():
        monkeypatch.setenv(name, value)
    return runs.cell_environ(device)


def test_cells_see_this_project_one_thread_and_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the caller's own path is; the rest is inherited."""
    made = environment(monkeypatch, DeviceKind.CPU, PYTHONPATH="/elsewhere", MINE="kept")
    ours = ("OMP_NUM_THREADS", "PYTHONPATH", "PYTHONHASHSEED", "TOKENIZERS_PARALLELISM", "HF_HUB_OFFLINE", "MINE")
    assert {name: made[name] for name in ours} == {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "PYTHONHASHSEED": "0",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "MINE": "kept",
    }


def test_cells_keep_their_bytecode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it every import of TRL costs seconds."""
    assert "PYTHONDONTWRITEBYTECODE" not in environment(monkeypatch, DeviceKind.CPU, PYTHONDONTWRITEBYTECODE="1")


def test_who_wants_more_threads_gets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """One is the default, not the law."""
    assert environment(monkeypatch, DeviceKind.CPU, OMP_NUM_THREADS="4")["OMP_NUM_THREADS"] == "4"


def test_a_cpu_cell_sees_no_gpu_and_a_gpu_cell_those_its_caller_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trainer takes a GPU it sees, whatever it was asked for."""
    assert environment(monkeypatch, DeviceKind.CPU, CUDA_VISIBLE_DEVICES="1")["CUDA_VISIBLE_DEVICES"] == ""
    assert environment(monkeypatch, DeviceKind.CUDA, CUDA_VISIBLE_DEVICES="1")["CUDA_VISIBLE_DEVICES"] == "1"
    assert "CUDA_VISIBLE_DEVICES" not in environment(monkeypatch, DeviceKind.CUDA)


# ---------------------------------------------------------------------------------------------------------- what is run


def test_every_cell_of_the_device_is_planned_with_what_is_listed_for_it() -> None:
    """In catalog order; plain CPU placement is for CPUs."""
    for device in DeviceKind:
        cells = runs.planned_cells(LISTED, device, on_trl("0.22.2"))
        assert [(cell.flow, cell.variant) for cell in cells] == [(f.name, v) for f, v in catalog.cells_on(device)]
        assert {str(cell) for cell in cells if cell.listed} == {
            f"sft-peft-model[{variant}]"
            for variant in catalog.flow_named("sft-peft-model").variants
            if variant.precision.value in ("nf4", "int8")
        }


class Cells:
    """Stands in for the cells' process: plays a part in the run it is given, and ends with a status."""

    def __init__(self) -> None:
        self.status = 0
        self.plays: Callable[[Plan, PlannedCell], Observation | None] = lambda plan, cell: healthy(
            cell.flow, cell.variant, stack=plan.stack, versions=on_trl("0.22.2")
        )
        self.selects: Callable[[Plan], Sequence[PlannedCell] | None] = lambda plan: plan.cells[:3]
        self.commands: list[Sequence[str]] = []
        self.environ: Mapping[str, str] = {}
        self.rows_meanwhile: tuple[StackRow, ...] = ()

    def run(self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str], check: bool) -> SimpleNamespace:
        assert (cwd, check) == (ROOT, False)
        self.commands.append(command)
        self.environ = env
        if "--plan" in command:
            self._play(read_plan(Path(command[command.index("--plan") + 1])))
        return SimpleNamespace(returncode=self.status)

    def _play(self, plan: Plan) -> None:
        run = Path(plan.run)
        self.rows_meanwhile = read_rows(run)
        selected = self.selects(plan)
        if selected is None:
            return
        plan.selected_file.parent.mkdir(exist_ok=True)
        plan.selected_file.write_text("".join(f"{plan.id_of(cell)}\n" for cell in selected), encoding="utf-8")
        seen = [observation for cell in selected if (observation := self.plays(plan, cell))]
        with (run / "observations.jsonl").open("a", encoding="utf-8") as file:
            file.writelines(f"{to_json(observation)}\n" for observation in seen)


@pytest.fixture
def cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cells:
    """A machine without a GPU, an empty ledger, a directory for runs, and cells that are all healthy."""
    stand_in = Cells()
    monkeypatch.setattr(subprocess, "run", stand_in.run)
    monkeypatch.setattr(runs, "RUNS", tmp_path)
    monkeypatch.setenv(runs.RUN_ID, "one")
    gpus(monkeypatch, 0)
    listing(monkeypatch, UNLISTED)
    return stand_in


def listing(monkeypatch: pytest.MonkeyPatch, ledger: Ledger) -> None:
    """Make this today's ledger."""
    monkeypatch.setattr(runs, "load_ledger", lambda: ledger)


def lock() -> Lock:
    """A lock of the versions of every story, with TRL 0.22.2."""
    return Lock(Path("trl0.22-py311.txt"), "5f" * 32, on_trl("0.22.2"), {"torch": "2.13.0"})


def run_stack(*posargs: str, plan: LockPlan | None = None) -> ExitCode:
    """Run the stack of one correct row of a matrix."""
    stack = (plan or lock_plan()).stack
    return runs.run_stack(stack=stack, python="3.11", lock=lock(), env_python=ENV, base_torch=True, posargs=posargs)


def test_a_stack_whose_cells_are_as_stated_is_healthy(cells: Cells, tmp_path: Path) -> None:
    """One process, its row, the derived files, and the table."""
    assert run_stack("-k", "nf4") is ExitCode.HEALTHY
    [command] = cells.commands
    assert (command[-1], command[-3:-1]) == ("tests/cells", ["-k", "nf4"])
    [row] = read_rows(tmp_path / "one")
    assert (row.name, row.state, row.reason, len(row.selected)) == (STACK, RowState.RAN, "", 3)
    assert {verdict.outcome for verdict in judged(tmp_path / "one", UNLISTED).verdicts} == {Outcome.PASS}
    assert (tmp_path / "one" / "summary.md").exists()
    assert (tmp_path / "latest").readlink() == Path("one")


def test_the_process_is_told_all_a_cell_needs(cells: Cells, tmp_path: Path) -> None:
    """Versions of the lock, the matrix's torch and whether it is another, steps, limit and device."""
    run_stack("--steps", "3", "--limit", "9", "--device", "cpu")
    plan = read_plan(tmp_path / "one" / "plans" / f"{STACK}.json")
    assert (plan.run, plan.stack, plan.lock_sha256) == (str(tmp_path / "one"), STACK, "5f" * 32)
    assert (plan.torch_wanted, plan.base_torch, plan.device) == ("2.13.0", True, DeviceKind.CPU)
    assert (plan.steps, plan.seed, plan.limit_s) == (3, 0, 9.0)
    assert plan.cells == runs.planned_cells(UNLISTED, DeviceKind.CPU, VERSIONS)
    assert cells.environ["CUDA_VISIBLE_DEVICES"] == ""


def test_listed_and_unlisted_deviations_make_the_exit_code(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest's own status says nothing: the observations are judged."""
    cells.selects = lambda plan: [cell for cell in plan.cells if str(cell) == "sft-peft-model[qwen2-nf4-gc]"]
    cells.plays = lambda plan, cell: frozen(
        healthy(cell.flow, cell.variant, stack=plan.stack, versions=on_trl("0.22.2"))
    )
    assert run_stack() is ExitCode.UNHEALTHY
    listing(monkeypatch, LISTED)
    cells.status = 1
    assert run_stack() is ExitCode.HEALTHY


def test_a_cell_without_an_observation_is_the_machines(cells: Cells) -> None:
    """The others are as they are."""
    plays = cells.plays
    cells.plays = lambda plan, cell: None if cell is plan.cells[1] else plays(plan, cell)
    cells.status = 1
    assert run_stack() is ExitCode.COULD_NOT_TELL


def test_a_process_that_ends_before_it_selects_is_the_machines(cells: Cells, tmp_path: Path) -> None:
    """With pytest's status, since its own words are above the table."""
    cells.selects, cells.status = lambda _: None, 139
    assert run_stack() is ExitCode.COULD_NOT_TELL
    [row] = read_rows(tmp_path / "one")
    assert (row.state, row.selected) == (RowState.INFRASTRUCTURE, ())
    assert row.reason == "pytest ended with status 139 before it could select any cell: see the session's output"


def test_the_selection_of_an_earlier_session_of_the_run_does_not_count(cells: Cells, tmp_path: Path) -> None:
    """A process that ends before it selects has selected nothing, whatever lies there from before."""
    run_stack()
    cells.selects, cells.status = lambda _: None, 139
    assert run_stack() is ExitCode.COULD_NOT_TELL
    assert [row.state for row in read_rows(tmp_path / "one")] == [RowState.INFRASTRUCTURE]


@pytest.mark.parametrize(
    ("selected", "status", "what"), [((), 5, "no cell matches"), (None, 4, "pytest does not understand")]
)
def test_arguments_that_select_nothing_are_bad_input(
    cells: Cells, tmp_path: Path, selected: tuple[PlannedCell, ...] | None, status: int, what: str
) -> None:
    """A misspelt -k has found nothing out: it is no row of the run."""
    cells.selects, cells.status = lambda _: selected, status
    with pytest.raises(CompatError) as raised:
        run_stack("-k", "sft_peft", "-x")
    assert raised.value.exit_code is ExitCode.BAD_INPUT
    assert str(raised.value) == (
        f"arguments after -- (-k sft_peft -x): {what}\n"
        "-k matches parts of a cell's name, such as sft-peft-model[qwen2-nf4-gc].\n"
        f"The flows are {', '.join(flow.name for flow in catalog.CATALOG)}."
    )
    assert read_rows(tmp_path / "one") == ()


def test_while_its_cells_run_a_stack_is_unfinished(cells: Cells) -> None:
    """A session that is killed leaves that row behind."""
    run_stack()
    [row] = cells.rows_meanwhile
    assert (row.name, row.state) == (STACK, RowState.INFRASTRUCTURE)
    assert row.reason == "its session has not ended: it is still running, or it was killed"


@pytest.mark.parametrize("posargs", [(), ("--faults",), ("--closed-forms",), ("--overhead",)])
@pytest.mark.usefixtures("cells")
def test_what_cells_leave_behind_is_removed_however_they_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, posargs: tuple[str, ...]
) -> None:
    """Models of a process that was interrupted would fill the disk; the run's own files stay."""
    scratch = tmp_path / "one" / "scratch" / STACK

    def interrupted(*_: object, **__: object) -> None:
        (scratch / "qwen2-5f").mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_stack(*posargs)
    assert not scratch.exists()
    assert (tmp_path / "one" / "plans" / f"{STACK}.json").exists()


# ----------------------------------------------------------------------------------------------------------- run's name


def test_sessions_of_one_run_id_write_into_one_run(cells: Cells, tmp_path: Path) -> None:
    """Stacks that run side by side are one run, with one row each; one without cells too."""
    run_stack()
    runs.record_absent("trl0.4-py311", RowState.UNINSTALLABLE, "no solution found")
    runs.record_absent("trl0.5-py311", RowState.INFRASTRUCTURE, "the package registry is out of reach")
    rows = read_rows(tmp_path / "one")
    assert [(row.name, row.state, row.reason) for row in rows] == [
        (STACK, RowState.RAN, ""),
        ("trl0.4-py311", RowState.UNINSTALLABLE, "no solution found"),
        ("trl0.5-py311", RowState.INFRASTRUCTURE, "the package registry is out of reach"),
    ]
    lines = (tmp_path / "one" / "verdicts.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["outcome"] for line in lines][-2:] == ["uninstallable", "infrastructure"]


def test_a_session_that_was_given_no_run_makes_one_and_keeps_it(
    cells: Cells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name sorts by time; the session's next stack goes into the same run."""
    monkeypatch.delenv(runs.RUN_ID)
    run_stack()
    runs.record_absent("trl0.4-py311", RowState.UNINSTALLABLE, "no solution found")
    [run] = [path for path in tmp_path.iterdir() if not path.is_symlink()]
    assert re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{4}", run.name)
    assert os.environ[runs.RUN_ID] == run.name
    assert len(read_rows(run)) == 2


# ------------------------------------------------------------------------------------------------- instead of the cells


@pytest.mark.parametrize(
    ("option", "file"),
    [("--faults", "test_faults.py"), ("--closed-forms", "families"), ("--overhead", "overhead.py")],
)
@pytest.mark.parametrize(("status", "code"), [(0, ExitCode.HEALTHY), (1, ExitCode.UNHEALTHY)])
def test_what_runs_in_place_of_the_cells_ends_with_its_own_result(
    cells: Cells, tmp_path: Path, option: str, file: str, status: int, code: ExitCode
) -> None:
    """On the plan of all cells; no row, no verdict, and `latest` still leads to the last real run."""
    b.stored(tmp_path / "before", [b.uninstallable("trl0.4-py311")])
    (tmp_path / "latest").symlink_to("before")
    cells.status, cells.selects = status, lambda _: None
    assert run_stack(option) is code
    [command] = cells.commands
    assert any(word.endswith(file) for word in command)
    assert str(tmp_path / "one" / "plans" / f"{STACK}.json") in command
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["plans"]
    assert (tmp_path / "latest").readlink() == Path("before")
