"""Running one stack: options, device, the cells' process, and the row written after it. No cell runs here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import builders as b
import pytest
import store_builders
from builders import LISTED, UNLISTED, VERSIONS, frozen, healthy, on_trl
from finetune_compat import nox_session
from finetune_compat.checks import Outcome
from finetune_compat.checks.ledger import Ledger
from finetune_compat.contract import catalog
from finetune_compat.contract.catalog import Tier
from finetune_compat.contract.errors import CompatError, ExitCode
from finetune_compat.contract.options import Attention, DeviceChoice, Instead
from finetune_compat.contract.plan import Plan, PlannedCell, read_plan, workers_file
from finetune_compat.contract.records import DeviceKind, Observation, to_json
from finetune_compat.machine.capacity import Machine
from finetune_compat.machine.files import write_atomically
from finetune_compat.machine.gpus import Gpu, Wanted
from finetune_compat.machine.places import PACKAGE
from finetune_compat.results.run_files import RowState, StackRow, judged, read_rows
from finetune_compat.run import from_store, stack_run
from finetune_compat.run import options as run_options
from finetune_compat.run.options import RunOptions, parse_options
from finetune_compat.stacks import ask
from finetune_compat.stacks.locks import Lock
from finetune_compat.stacks.matrix import LockPlan
from finetune_compat.store.addresses import Installed
from gpu_builders import gpu, machine_with
from stack_builders import lock_plan

ROOT = PACKAGE.parents[1]
SESSION = PACKAGE / "cell" / "session"

ENV = Path("/env/bin/python")
PLAN = Path("/runs/one/plans/trl0.22-py311.json")
STACK = "trl0.22-py311"


# ------------------------------------------------------------------------------------------------------------- options


def test_without_arguments_a_cell_has_its_usual_length_and_limit() -> None:
    """Ten steps, two minutes, any device, and up to two idle GPUs with more than 40 GB."""
    options = parse_options(())
    assert options == RunOptions(
        DeviceChoice.AUTO,
        Attention.SDPA,
        steps=10,
        instead=None,
        tier=Tier.DEFAULT,
        seeds=None,
        pytest=(),
        gpus=Wanted(2, 2.0, 40.0),
    )
    assert (options.limit_s, options.memory_bytes) == (120.0, run_options.MEMORY_LIMIT)


def test_known_options_are_removed_and_the_rest_keeps_its_order() -> None:
    """pytest gets unknown options unchanged."""
    given = (
        "-k",
        "nf4 and not llama",
        "--steps",
        "20",
        "-x",
        "--device=cuda",
        "--attention",
        "eager",
        "--limit",
        "7.5",
        "--lf",
    )
    limits = ("--gpus", "4", "--gpu-idle-below=0.5", "--gpu-larger-than", "16")
    assert parse_options((*given, *limits)) == RunOptions(
        DeviceChoice.CUDA,
        Attention.EAGER,
        steps=20,
        limit=7.5,
        instead=None,
        tier=Tier.FULL,
        seeds=None,
        pytest=("-k", "nf4 and not llama", "-x", "--lf"),
        gpus=Wanted(4, 0.5, 16.0),
    )


@pytest.mark.parametrize("each", list(Instead))
def test_what_runs_instead_of_the_cells_is_an_option(each: Instead) -> None:
    """pytest does not get these options."""
    options = parse_options((f"--{each}",))
    assert (options.instead, options.pytest) == (each, ())


@pytest.mark.parametrize("each", list(Instead))
def test_memory_is_limited_where_there_are_workers_to_end(each: Instead) -> None:
    """What runs instead of the cells is one process without workers: it has no limit, and none can be requested."""
    assert parse_options((f"--{each}",)).memory_bytes is None
    with pytest.raises(CompatError) as caught:
        parse_options((f"--{each}", "--memory-limit", "3GiB"))
    assert str(caught.value) == (
        f"arguments after --: --memory-limit does not go with --{each}\n"
        "The limit ends the worker that exceeds it, and this option runs in one process without workers.\n"
        "Leave one of them out."
    )


@pytest.mark.parametrize("each", list(Instead))
def test_what_runs_instead_of_the_cells_waits_for_a_busy_machine(each: Instead) -> None:
    """A test that watches a script took 2 minutes with 9 processes on each core. Beyond the limit the session ends."""
    assert parse_options((f"--{each}",)).limit_s == run_options.TEST_LIMIT_S > 10 * run_options.LIMIT_S
    assert parse_options((f"--{each}", "--limit", "9")).limit_s == 9.0


def test_real_weights_have_an_hour_for_a_cell_by_default() -> None:
    """They may have to be downloaded; `--limit` overrides the default."""
    asked = parse_options(("--model", "Qwen/Qwen2.5-7B", "-k", "nf4"))
    assert (asked.model, asked.limit_s, asked.pytest) == ("Qwen/Qwen2.5-7B", 3600.0, ("-k", "nf4"))
    assert parse_options(("--model", "gpt2", "--limit", "9")).limit_s == 9.0


def test_an_invalid_model_is_bad_input() -> None:
    """It is refused before anything is created."""
    with pytest.raises(CompatError) as raised:
        parse_options(("--model", "./nowhere"))
    assert str(raised.value) == (
        "--model: './nowhere' is neither a directory nor a hub id\n"
        "The directory does not exist, or the value is a single file of a model.\n"
        "Name the directory that save_pretrained wrote, or a hub id (example: Qwen/Qwen2.5-7B)."
    )


@pytest.mark.parametrize("other", ["--faults", "--overhead", "--tier deep-only"])
def test_faults_and_overhead_are_for_tiny_models(other: str) -> None:
    """They plant faults into tiny models and measure tiny models."""
    with pytest.raises(CompatError) as raised:
        parse_options(("--model", "gpt2", *other.split()))
    assert str(raised.value) == (
        f"arguments after --: --model does not go with {other}\n"
        "That option needs the tiny models of the harness.\n"
        "Leave one of them out."
    )


def test_a_prefix_of_an_option_is_passed_to_pytest() -> None:
    """`--fault` or `--dev` may be options of a pytest plugin."""
    assert parse_options(("--fault", "--dev", "cpu")).pytest == ("--fault", "--dev", "cpu")


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        # Python 3.12 and later quote the choices differently.
        (("--device", "tpu"), r"argument --device: invalid choice: 'tpu' \(choose from '?auto'?, '?cpu'?, '?cuda'?\)"),
        (
            ("--attention", "flash"),
            r"argument --attention: invalid choice: 'flash' \(choose from '?sdpa'?, '?eager'?, '?flash_attention_2'?\)",
        ),
        (
            ("--tier", "shallow"),
            r"argument --tier: invalid choice: 'shallow' \(choose from '?default'?, '?full'?, [^)]+\)",
        ),
        (("--steps", "ten"), r"argument --steps: invalid int value: 'ten'"),
        (("--steps", "2.5"), r"argument --steps: invalid int value: '2\.5'"),
        (("--limit", "long"), r"argument --limit: invalid float value: 'long'"),
        (("-x", "--limit"), r"argument --limit: expected one argument"),
    ],
)
def test_an_invalid_value_is_bad_input(given: tuple[str, ...], problem: str) -> None:
    """The message has the error, its place, and what happens to other options."""
    with pytest.raises(CompatError) as raised:
        parse_options(given)
    assert raised.value.exit_code is ExitCode.BAD_INPUT
    wanted = rf"arguments after --: {problem}\nCorrect it\. Other options are passed to pytest unchanged\."
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
    """The message has the reason: with fewer steps half of an adapter receives nothing."""
    with pytest.raises(CompatError) as raised:
        parse_options(given)
    assert raised.value.exit_code is ExitCode.BAD_INPUT
    assert str(raised.value) == (
        f"arguments after --: {what}\n"
        "Before step 2 half of a LoRA adapter has no gradient to receive; a limit is in seconds.\n"
        "Ask for 2 steps or more, and for a limit above 0."
    )


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (("--gpus", "0"), "--gpus 0 --gpu-idle-below 2 --gpu-larger-than 40"),
        (("--gpu-idle-below", "0"), "--gpus 2 --gpu-idle-below 0 --gpu-larger-than 40"),
        (("--gpu-larger-than=-1", "--device", "cpu"), "--gpus 2 --gpu-idle-below 2 --gpu-larger-than -1"),
        (("--gpu-larger-than", "nan"), "--gpus 2 --gpu-idle-below 2 --gpu-larger-than nan"),
    ],
)
def test_limits_that_no_gpu_can_meet_are_bad_input(given: tuple[str, ...], what: str) -> None:
    """This holds on a CPU too."""
    with pytest.raises(CompatError) as raised:
        parse_options(given)
    assert raised.value.exit_code is ExitCode.BAD_INPUT
    assert str(raised.value) == (
        f"arguments after --: {what}\n"
        "No GPU can match these values. The limits are in GB of memory: used by others, and in total.\n"
        "Give --gpus 1 or more, --gpu-idle-below a number above 0, and --gpu-larger-than 0 or more."
    )


# -------------------------------------------------------------------------------------------------------------- device


@pytest.mark.parametrize(
    ("given", "there", "chosen"),
    [
        ((), 0, 0),
        ((), 1, 1),
        ((), 3, 2),
        (("--device", "auto"), 1, 1),
        (("--device", "cpu"), 1, 0),
        (("--device", "cuda"), 1, 1),
        (("--device", "cuda", "--gpus", "3"), 4, 3),
        (("--gpus=1",), 4, 1),
    ],
)
def test_available_gpus_are_used_by_default(
    monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...], there: int, chosen: int
) -> None:
    """Two GPUs are used by default."""
    found = machine_with(monkeypatch, there)
    assert stack_run.chosen_gpus(parse_options(given)) == found[:chosen]


def test_the_choice_of_gpus_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The message has the requested limits."""
    machine_with(monkeypatch, 2, "1")
    assert stack_run.chosen_gpus(parse_options(("--gpu-larger-than", "16", "--gpu-idle-below", "4"))) == (gpu(1),)
    assert capsys.readouterr().out == (
        "GPU 1 (NVIDIA H100) of 2: idle and large enough (under 4 GB used, over 16 GB in all)\n"
        "not GPU 0: hidden by CUDA_VISIBLE_DEVICES\n"
    )


def test_a_cpu_run_does_not_query_the_driver(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A broken driver does not matter, and nothing is printed."""
    monkeypatch.delattr(stack_run, "read_gpus")
    assert stack_run.chosen_gpus(parse_options(("--device", "cpu"))) == ()
    assert capsys.readouterr().out == ""


def test_with_hidden_gpus_the_cpu_is_used_and_a_message_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without any GPU nothing is printed."""
    machine_with(monkeypatch, 2, "-1")
    assert stack_run.chosen_gpus(parse_options(())) == ()
    assert capsys.readouterr().out == "CPU: CUDA_VISIBLE_DEVICES=-1 hides all 2 GPUs\n"
    machine_with(monkeypatch, 0)
    assert stack_run.chosen_gpus(parse_options(())) == ()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("there", "visible", "meaning"),
    [
        (0, None, "There is no NVIDIA driver, or the driver finds no GPU."),
        (0, "0", "There is no NVIDIA driver, or the driver finds no GPU."),
        (2, "", "CUDA_VISIBLE_DEVICES= hides all 2 GPUs."),
        (2, "7", "CUDA_VISIBLE_DEVICES=7 hides all 2 GPUs."),
    ],
)
def test_a_requested_gpu_that_is_missing_is_bad_input(
    monkeypatch: pytest.MonkeyPatch, there: int, visible: str | None, meaning: str
) -> None:
    """It is refused before anything is installed."""
    machine_with(monkeypatch, there, visible)
    with pytest.raises(CompatError) as raised:
        stack_run.chosen_gpus(parse_options(("--device=cuda",)))
    assert raised.value.exit_code is ExitCode.BAD_INPUT
    assert str(raised.value) == (
        "arguments after --: --device cuda, and no NVIDIA GPU is visible\n"
        f"{meaning}\n"
        "Use --device cpu, or --device auto, which uses a GPU if there is one."
    )


# --------------------------------------------------------------------------------------------------- the cells' process


FEW = Plan("/runs/one", STACK, "5f" * 32, "2.13.0", True, DeviceKind.CPU, "sdpa", 10, 0, 9.0, ())
"""A plan without a cell, of a run that is nowhere."""


def test_cells_are_run_by_the_environments_own_pytest() -> None:
    """The whole command: it is quiet, because the harness prints the table, and unknown options come before the
    folder.
    """
    command = stack_run._cells_command(ENV, FEW, (), parse_options(("-k", "nf4", "--steps", "3")), 1)
    assert command == [
        *("/env/bin/python", "-P", "-m", "pytest", "-c", str(SESSION / "pytest.ini"), "--rootdir", str(ROOT)),
        *("-p", "finetune_compat.cell.plugin", "--plan", "/runs/one/plans/trl0.22-py311.json"),
        *("-n", "1", "--maxschedchunk=1"),
        f"--max-worker-restart={len(catalog.cells_on(DeviceKind.CPU))}",
        *("-q", "--no-header", "--no-summary", "--tb=no", "-k", "nf4", str(SESSION / "test_flows.py")),
    ]


@pytest.mark.parametrize(("chosen", "device", "workers"), [(0, "cpu", "1"), (1, "cuda", "1"), (4, "cuda", "4")])
def test_there_is_one_worker_on_a_cpu_and_one_for_each_gpu(chosen: int, device: str, workers: str) -> None:
    """A worker dies with its cell if needed, so each has one device."""
    gpus, options = [gpu(index) for index in range(chosen)], parse_options(())
    number = stack_run._workers(FEW, 99, gpus, options, alone=False)
    command = stack_run._cells_command(ENV, FEW, gpus, options, number)
    assert command[command.index("-n") + 1] == workers
    assert f"--max-worker-restart={len(catalog.cells_on(DeviceKind(device)))}" in command


@pytest.mark.parametrize(
    ("posargs", "several"),
    [
        ((), True),
        (("-k", "nf4", "--no-cov"), True),
        (("--model", "org/some"), False),
        (("-n", "1"), False),
        (("-n4",), False),
        (("--numprocesses=2",), False),
        (("--dist", "loadfile"), False),
    ],
)
def test_tiny_cells_have_several_workers_unless_a_number_is_given(posargs: tuple[str, ...], *, several: bool) -> None:
    """Real weights need the memory and cores of many tiny models."""
    assert stack_run.may_share(parse_options(posargs)) is several


def instead(*posargs: str) -> list[str]:
    options = parse_options(posargs)
    assert options.instead is not None
    return nox_session._instead_command(options.instead, ENV, PLAN, options)


def test_what_runs_instead_of_the_cells_has_its_own_command() -> None:
    """It runs in the same environment, with the same plan and the unknown options."""
    plugin = ("-p", "finetune_compat.cell.plugin", "--plan", str(PLAN))
    pytest_ = (
        "/env/bin/python",
        "-P",
        "-m",
        "pytest",
        "-c",
        str(SESSION / "pytest.ini"),
        "--rootdir",
        str(ROOT),
        *plugin,
    )
    shown = ("-v", "--no-header", "--tb=short")
    assert instead("--faults", "-k", "crash") == [
        *pytest_,
        *shown,
        "-k",
        "crash",
        "tests/mutation",
        "tests/independent_faults",
    ]
    assert instead("--guard") == [*pytest_, *shown, "-p", "finetune_compat.cell.fixtures", "tests/guard"]
    assert instead("--adapters", "-x") == [*pytest_, *shown, "-x", "--host-python", sys.executable, "tests/adapters"]
    assert instead("--pipelines") == [*pytest_, *shown, "--host-python", sys.executable, "tests/pipelines"]
    assert instead("--branches") == ["/env/bin/python", "-m", "finetune_compat.cell.branches", str(PLAN)]
    assert instead("--overhead") == ["/env/bin/python", "tests/benchmarks/overhead.py", str(PLAN)]
    assert instead("--guard-overhead") == ["/env/bin/python", "tests/benchmarks/guard_overhead.py", str(PLAN)]


def test_one_thing_runs_instead_of_the_cells() -> None:
    """Two at once are refused."""
    with pytest.raises(CompatError) as raised:
        parse_options(("--faults", "--guard"))
    assert str(raised.value) == (
        "arguments after --: argument --guard: not allowed with argument --faults\n"
        "Correct it. Other options are passed to pytest unchanged."
    )


def test_files_that_commands_name_are_there() -> None:
    """They are run from the checkout."""
    commands = [
        stack_run._cells_command(ENV, FEW, (), parse_options(()), 1),
        *(instead(f"--{each}") for each in Instead),
    ]
    named = {word for command in commands for word in command if word.startswith("tests/")}
    assert named
    assert [word for word in named if not (ROOT / word).exists()] == []


def environment(monkeypatch: pytest.MonkeyPatch, *gpus: Gpu, **inherited: str) -> dict[str, str]:
    """Return the environment of a cells' process whose parent has `inherited`."""
    for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name, value in inherited.items():
        monkeypatch.setenv(name, value)
    return ask.cell_environ(gpus)


def test_cells_see_this_project_one_thread_and_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller's own path does not matter; where caches are is inherited."""
    made = environment(monkeypatch, PYTHONPATH="/elsewhere", HF_HOME="/cache")
    ours = ("OMP_NUM_THREADS", "PYTHONPATH", "PYTHONHASHSEED", "TOKENIZERS_PARALLELISM", "HF_HUB_OFFLINE", "HF_HOME")
    assert {name: made[name] for name in ours} == {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT / "harness"),
        "PYTHONHASHSEED": "0",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": "/cache",
    }


SECRETS = (
    *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    *("GITHUB_TOKEN", "WANDB_API_KEY", "UV_INDEX_PRIVATE_PASSWORD", "UV_DEFAULT_INDEX", "PIP_INDEX_URL"),
    *("COMPAT_STORE_REMOTE", "HTTPS_PROXY", "SSH_AUTH_SOCK", "TORCH_HUB_TOKEN", "TRANSFORMERS_API_KEY", "MINE"),
)


@pytest.mark.parametrize("name", SECRETS)
def test_a_cell_gets_no_variable_that_it_does_not_need(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Every package of an untrusted lock could read it. A user can name it."""
    assert name not in environment(monkeypatch, **{name: "planted"})
    assert ask.cell_environ((), more=[name])[name] == "planted"


def test_a_named_variable_reaches_the_cells(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the whole session."""
    monkeypatch.setenv("MINE", "kept")
    monkeypatch.setenv("OTHER", "dropped")
    run_stack("--pass-env", "MINE", "--pass-env", "MISSING")
    assert cells.environ["MINE"] == "kept"
    assert not {"OTHER", "MISSING"} & cells.environ.keys()


@pytest.mark.parametrize("run_id", ["latest", ".lock", "../x", "/abs", ""])
def test_a_run_id_outside_of_the_directory_runs_nothing(
    cells: Cells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_id: str
) -> None:
    """Neither a session nor a row is written."""
    monkeypatch.setenv(stack_run.RUN_ID, run_id)
    for begin in (run_stack, lambda: stack_run.record_absent(STACK, RowState.UNINSTALLABLE, "none")):
        with pytest.raises(CompatError, match=f"COMPAT_RUN_ID: '{run_id}' cannot be the name of a run"):
            begin()
    assert cells.commands == [] and list(tmp_path.iterdir()) == []


def test_a_latest_that_is_no_link_is_reported_before_anything_runs(cells: Cells, tmp_path: Path) -> None:
    """It is reported before hours of cells, and without a traceback."""
    (tmp_path / "latest").mkdir()
    with pytest.raises(CompatError, match="latest: it is not the link to the newest run"):
        run_stack()
    assert cells.commands == [] and [path.name for path in tmp_path.iterdir()] == ["latest"]


def test_a_log_of_the_run_holds_no_secret(tmp_path: Path) -> None:
    """This holds for any output and any end of the cells' process."""
    run = str(tmp_path / "one")
    planned = Plan(run, STACK, "5f" * 32, "2.13.0", True, DeviceKind.CPU, "sdpa", 10, 0, 9.0, ())
    told = "print('Authorization: Bearer abcdef0123456789, --hub_token mine'); raise SystemExit(3)"
    log = tmp_path / "one" / "logs" / "x.txt"
    assert stack_run.run_process([sys.executable, "-c", told], planned, (), log) == 3
    assert log.read_text() == "Authorization: Bearer REDACTED, --hub_token REDACTED\n"


def test_only_cells_of_a_hub_id_may_access_the_hub(
    cells: Cells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiny models and directories need no hub; the caller's variable then decides."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / "mine" / name).touch()
    cells.plays = lambda plan, cell: b.real()
    for given, offline in (((), True), (("--model", str(tmp_path / "mine")), True), (("--model", "org/some"), False)):
        run_stack(*given)
        assert ("HF_HUB_OFFLINE" in cells.environ) is offline


def test_cells_keep_their_bytecode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without bytecode every import of TRL takes seconds."""
    assert "PYTHONDONTWRITEBYTECODE" not in environment(monkeypatch, PYTHONDONTWRITEBYTECODE="1")


def test_a_user_may_set_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread is the default."""
    assert environment(monkeypatch, OMP_NUM_THREADS="4")["OMP_NUM_THREADS"] == "4"


@pytest.mark.parametrize("inherited", [{}, {"CUDA_VISIBLE_DEVICES": "1"}])
def test_a_cpu_cell_sees_no_gpu_and_a_gpu_cell_the_chosen_ones(
    monkeypatch: pytest.MonkeyPatch, inherited: dict[str, str]
) -> None:
    """GPUs are named by UUID, whatever the caller's numbers are. A trainer uses every GPU it sees."""
    assert environment(monkeypatch, **inherited)["CUDA_VISIBLE_DEVICES"] == ""
    assert environment(monkeypatch, gpu(2), gpu(0), **inherited)["CUDA_VISIBLE_DEVICES"] == "GPU-2f,GPU-0f"


# ---------------------------------------------------------------------------------------------------------- what is run


def test_every_cell_of_the_device_is_planned_with_what_is_listed_for_it() -> None:
    """The cells are in catalog order; plain placement is only for CPUs."""
    for device in DeviceKind:
        cells = stack_run.planned_cells(LISTED, device, on_trl("0.22.2"))
        assert [(cell.flow, cell.variant) for cell in cells] == [(f.name, v) for f, v in catalog.cells_on(device)]
        assert {str(cell) for cell in cells if cell.listed} == {
            f"sft-peft-model[{variant}]"
            for variant in catalog.flow_named("sft-peft-model").variants
            if variant.precision.value in ("nf4", "int8")
        }


TOKENIZED = frozenset({"rft-all-linear", "rft-labels-masked"})
PAIRED = frozenset({"dpo-peft-config", "dpo-peft-model", "dpo-adapter-named", "orpo-peft-config", "cpo-peft-config"})
UNPAIRED = frozenset({"kto-peft-config", "kto-peft-model"})
LEAVE_ONE_OUT = frozenset({"rloo-peft-config"})
ONLINE = LEAVE_ONE_OUT | {"grpo-peft-config", "grpo-peft-model"}
DEFAULTS = frozenset({"sft-defaults"})


@pytest.mark.parametrize(
    ("package", "version", "gone"),
    [
        ("transformers", "4.44.2", {"qwen2-vl", "qwen2-vl+vision", "qwen2.5-vl", "qwen2.5-vl+vision"}),
        ("transformers", "4.45.0rc1", {"qwen2-vl", "qwen2-vl+vision", "qwen2.5-vl", "qwen2.5-vl+vision"}),
        ("transformers", "4.45.0", {"qwen2.5-vl", "qwen2.5-vl+vision"}),
        ("transformers", "4.48.3", {"qwen2.5-vl", "qwen2.5-vl+vision"}),
        ("transformers", "4.49.0", set()),
        ("transformers", "5.3.0", set()),
        ("trl", "0.7.11", {*TOKENIZED, *UNPAIRED, *PAIRED, *ONLINE, *DEFAULTS}),
        ("trl", "0.8.0", {*UNPAIRED, *PAIRED, *ONLINE, *DEFAULTS}),
        ("trl", "0.8.1", {*PAIRED, *ONLINE, *DEFAULTS}),
        ("trl", "0.9.2", ONLINE | DEFAULTS),
        ("trl", "0.12.0", ONLINE),
        ("trl", "0.18.0", LEAVE_ONE_OUT),
        ("trl", "0.22.0", set()),
        ("peft", "0.13.2", {"sft-trainable-tokens", "sft-vera"}),
        ("peft", "0.14.0", {"sft-trainable-tokens"}),
        ("peft", "0.15.0", set()),
    ],
)
def test_cells_that_need_other_versions_are_not_planned(
    package: str, version: str, gone: frozenset[str] | set[str]
) -> None:
    """Older Transformers lack an architecture, older TRL and PEFT an API: such cells are neither missing nor failed."""
    every = catalog.cells_on(DeviceKind.CPU)
    planned = stack_run.planned_cells(UNLISTED, DeviceKind.CPU, {**VERSIONS, package: version})
    kept = [(cell.flow, cell.variant) for cell in planned]
    assert kept == [(f.name, v) for f, v in every if v.model not in gone and f.name not in gone]
    assert len(kept) < len(every) or not gone


def test_real_weights_are_planned_under_their_name_whatever_the_transformers() -> None:
    """Issues of a flow also apply to real weights; a flow that needs a newer TRL has no such cells either."""
    versions = {**on_trl("0.22.2"), "transformers": "4.30.0"}
    cells = stack_run.planned_cells(LISTED, DeviceKind.CPU, versions, model="org/Some-Model_1.5")
    assert [cell.variant for cell in cells] == [v for _, v in catalog.cells_with("Some-Model_1.5", DeviceKind.CPU)]
    assert {cell.flow for cell in cells if cell.listed} == {"sft-peft-model"}
    old = stack_run.planned_cells(UNLISTED, DeviceKind.CPU, {**versions, "trl": "0.7.11"}, model="org/Some-Model_1.5")
    assert {cell.flow for cell in cells} - {cell.flow for cell in old} == {
        *TOKENIZED,
        *UNPAIRED,
        *PAIRED,
        *ONLINE,
        *DEFAULTS,
    }


def test_models_are_loaded_with_the_attention_that_was_asked_for(cells: Cells, tmp_path: Path) -> None:
    """The default is sdpa, as users train; the plan passes it to the cells."""
    run_stack()
    assert read_plan(tmp_path / "one" / "plans" / f"{STACK}.json").attention == "sdpa"
    run_stack("--attention", "eager")
    assert read_plan(tmp_path / "one" / "plans" / f"{STACK}.json").attention == "eager"


class Cells:
    """A stand-in for the cells' process: it writes into the given run and ends with a status."""

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
def cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_places: Any) -> Cells:
    """An empty ledger, a directory for runs, and cells that are all healthy."""
    stand_in = Cells()
    monkeypatch.setattr(subprocess, "run", stand_in.run)
    in_places(runs=tmp_path)
    monkeypatch.setenv(stack_run.RUN_ID, "one")
    monkeypatch.setattr(from_store, "installed", lambda *_: Installed("3.11.7", "2.13.0+cpu", triton=True))
    listing(monkeypatch, UNLISTED)
    return stand_in


def listing(monkeypatch: pytest.MonkeyPatch, ledger: Ledger) -> None:
    """Make this the ledger."""
    monkeypatch.setattr(nox_session, "load_ledger", lambda: ledger)


def lock() -> Lock:
    """A lock of the versions of all cases, with TRL 0.22.2."""
    return Lock(Path("trl0.22-py311.txt"), "5f" * 32, on_trl("0.22.2"), {"torch": "2.13.0"})


def run_stack(*posargs: str, plan: LockPlan | None = None, on: Sequence[Gpu] = (), alone: bool = False) -> ExitCode:
    """Run the stack of one valid row of a matrix."""
    return nox_session.run_stack(
        stack=(plan or lock_plan()).stack,
        python="3.11",
        lock=lock(),
        env_python=ENV,
        base_torch=True,
        gpus=on,
        options=parse_options(posargs),
        alone=alone,
    )


def test_a_stack_whose_cells_pass_is_healthy(cells: Cells, tmp_path: Path) -> None:
    """There is one process, its row and the table; derived files are written at the end of the run."""
    assert run_stack("-k", "nf4") is ExitCode.HEALTHY
    [command] = cells.commands
    assert (command[-1], command[-3:-1]) == (str(SESSION / "test_flows.py"), ["-k", "nf4"])
    [row] = read_rows(tmp_path / "one")
    assert (row.name, row.state, row.reason, len(row.selected)) == (STACK, RowState.RAN, "", 3)
    assert {verdict.outcome for verdict in judged(tmp_path / "one", UNLISTED).verdicts} == {Outcome.PASS}
    assert (tmp_path / "latest").readlink() == Path("one")
    assert not (tmp_path / "one" / "summary.md").exists()
    nox_session.finish_run(tmp_path / "one")
    assert (tmp_path / "one" / "summary.md").exists()


@pytest.mark.parametrize(
    ("alone", "posargs", "workers"),
    [(True, (), "7"), (False, (), "3"), (True, ("-k", "sft-full"), "1"), (True, ("-n", "2"), "1")],
)
def test_a_stack_alone_has_a_worker_for_every_core(
    cells: Cells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: bool, posargs: tuple[str, ...], workers: str
) -> None:
    """With other stacks it has as many as `compat run` requests; a few cells have one."""
    monkeypatch.setattr(stack_run, "tiny_at_once", lambda _: 7)
    write_atomically(workers_file(tmp_path / "one", STACK), "3")
    run_stack(*posargs, alone=alone)
    [command] = cells.commands
    assert command[command.index("-n") + 1] == workers


@pytest.mark.parametrize(
    ("granted", "posargs", "on", "joining", "forked"),
    [
        ("1", (), (), True, True),
        (None, (), (), False, False),
        ("1", (), (gpu(0),), True, False),
    ],
)
def test_workers_join_where_a_number_is_granted_and_are_forked_on_a_cpu(
    cells: Cells,
    tmp_path: Path,
    granted: str | None,
    posargs: tuple[str, ...],
    on: tuple[Gpu, ...],
    *,
    joining: bool,
    forked: bool,
) -> None:
    """A forked process cannot use CUDA. The server imports what a worker imports: the libraries, then the flows."""
    if granted:
        write_atomically(workers_file(tmp_path / "one", STACK), granted)
    run_stack(*posargs, on=on, alone=False)
    [command] = cells.commands
    assert ("--joining" in command, "--fork-after" in command) == (joining, forked)
    if forked:
        modules = command[command.index("--fork-after") + 1].split(",")
        assert modules[:4] == ["pytest", "finetune_compat.checks", "finetune_compat.cell.execution", "bitsandbytes"]
        assert "finetune_compat.cell.flows.sft_full" in modules
        assert len(modules) == len(set(modules))


@pytest.mark.parametrize(("used", "number"), [(0, 16), (150 * 10**9, 5), (160 * 10**9, 1)])
def test_tiny_cells_share_a_gpu_as_many_as_its_memory_takes(
    monkeypatch: pytest.MonkeyPatch, used: int, number: int
) -> None:
    """Each also has a core. A GPU that is chosen has one at least."""
    monkeypatch.setattr(stack_run, "this_machine", lambda _: Machine(cores=16, memory=2**40))
    one = replace(gpu(0), total=160 * 10**9, used=used)
    assert stack_run.tiny_at_once([one]) == number
    assert stack_run.tiny_at_once(()) == 16


def test_the_plan_has_everything_a_cell_needs(cells: Cells, tmp_path: Path) -> None:
    """The plan has the lock's versions, the matrix's torch and whether the base torch differs, steps, limit and
    device.
    """
    run_stack("--steps", "3", "--limit", "9", "--device", "cpu")
    plan = read_plan(tmp_path / "one" / "plans" / f"{STACK}.json")
    assert (plan.run, plan.stack, plan.lock_sha256) == (str(tmp_path / "one"), STACK, "5f" * 32)
    assert (plan.torch_wanted, plan.base_torch, plan.device) == ("2.13.0", True, DeviceKind.CPU)
    assert (plan.steps, plan.seed, plan.limit_s) == (3, 0, 9.0)
    assert tuple(replace(cell, recipe=None) for cell in plan.cells) == stack_run.planned_cells(
        UNLISTED, DeviceKind.CPU, VERSIONS
    )
    assert all(cell.recipe is not None and not cell.stored for cell in plan.cells)
    assert plan.store == os.environ["COMPAT_STORE"]
    assert (plan.model, cells.environ["CUDA_VISIBLE_DEVICES"]) == (None, "")


def test_pytests_folder_is_in_the_scratch_space_and_is_removed_with_it(cells: Cells) -> None:
    """In pytest's shared folder each run would remove the files of earlier ones, which takes time."""
    rooms: list[Path] = []

    def look(plan: Plan) -> Sequence[PlannedCell]:
        rooms.append(Path(cells.environ["PYTEST_DEBUG_TEMPROOT"]))
        assert rooms[0].is_dir() and rooms[0].is_relative_to(plan.scratch)
        return plan.cells[:3]

    cells.selects = look
    run_stack()
    assert len(rooms) == 1 and not rooms[0].exists()


def test_the_plan_names_the_weights_to_train(cells: Cells, tmp_path: Path) -> None:
    """The name is in the plan, not in the names of cells."""
    cells.plays = lambda plan, cell: b.real()
    run_stack("--model", "org/some")
    plan = read_plan(tmp_path / "one" / "plans" / f"{STACK}.json")
    assert (plan.model, {cell.variant.model for cell in plan.cells}) == ("org/some", {"some"})


def test_cells_run_on_the_gpus_that_were_chosen(cells: Cells, tmp_path: Path) -> None:
    """Each GPU has a worker, and the cells are those of a GPU."""
    cells.plays = lambda plan, cell: healthy(
        cell.flow, cell.variant, stack=plan.stack, versions=on_trl("0.22.2"), device=DeviceKind.CUDA
    )
    assert run_stack(on=(gpu(2), gpu(0))) is ExitCode.HEALTHY
    assert read_plan(tmp_path / "one" / "plans" / f"{STACK}.json").device is DeviceKind.CUDA
    [command] = cells.commands
    assert command[command.index("-n") + 1] == "2"
    assert cells.environ["CUDA_VISIBLE_DEVICES"] == "GPU-2f,GPU-0f"


@pytest.mark.parametrize(("status", "code"), [(0, ExitCode.HEALTHY), (1, ExitCode.UNHEALTHY)])
def test_a_run_of_planted_faults_is_passed_on_for_storage(
    cells: Cells,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    status: int,
    code: ExitCode,
) -> None:
    """Both records get the exit status and the options for pytest. They do not change the exit code."""
    given: list[object] = []
    for keeper in ("faults", "independent_faults"):
        keep = f"finetune_compat.evidence.{keeper}.save"
        monkeypatch.setattr(keep, lambda *what: given.append(what[1:]) or "Not kept.")
    monkeypatch.setattr("finetune_compat.evidence.faults.publish", lambda: given.append("published"))
    cells.status, cells.selects = status, lambda _: None
    assert run_stack("--faults", "-k", "crash") is code
    assert given == [(status, ("-k", "crash")), (status, ("-k", "crash")), "published"]
    assert "Not kept." in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--guard", "--overhead"])
def test_what_runs_in_one_process_gets_one_gpu(cells: Cells, option: str) -> None:
    """A Trainer that sees two GPUs spreads its model over both."""
    cells.selects = lambda _: None
    run_stack(option, on=(gpu(2), gpu(0)))
    assert cells.environ["CUDA_VISIBLE_DEVICES"] == "GPU-2f"


def test_listed_and_unlisted_deviations_make_the_exit_code(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    """Observations are judged; pytest's own status does not count."""
    cells.selects = lambda plan: [cell for cell in plan.cells if str(cell) == "sft-peft-model[qwen2-nf4-gc]"]
    cells.plays = lambda plan, cell: frozen(
        healthy(cell.flow, cell.variant, stack=plan.stack, versions=on_trl("0.22.2"))
    )
    assert run_stack() is ExitCode.UNHEALTHY
    listing(monkeypatch, LISTED)
    cells.status = 1
    assert run_stack() is ExitCode.HEALTHY


def test_a_cell_without_an_observation_is_an_infrastructure_failure(cells: Cells) -> None:
    """The other cells keep their results."""
    plays = cells.plays
    cells.plays = lambda plan, cell: None if cell is plan.cells[1] else plays(plan, cell)
    cells.status = 1
    assert run_stack() is ExitCode.COULD_NOT_TELL


def test_a_process_that_ends_before_it_selects_is_an_infrastructure_failure(cells: Cells, tmp_path: Path) -> None:
    """The reason has pytest's status; pytest's output is above the table."""
    cells.selects, cells.status = lambda _: None, 139
    assert run_stack() is ExitCode.COULD_NOT_TELL
    [row] = read_rows(tmp_path / "one")
    assert (row.state, row.selected) == (RowState.INFRASTRUCTURE, ())
    assert row.reason == "pytest ended with status 139 before it could select any cell: see the session's output"


def test_the_selection_of_an_earlier_session_of_the_run_does_not_count(cells: Cells, tmp_path: Path) -> None:
    """A process that ends before it selects has selected nothing, whatever an earlier one left."""
    run_stack()
    cells.selects, cells.status = lambda _: None, 139
    assert run_stack() is ExitCode.COULD_NOT_TELL
    assert [row.state for row in read_rows(tmp_path / "one")] == [RowState.INFRASTRUCTURE]


@pytest.mark.parametrize(
    ("selected", "status", "what"), [((), 5, "no cell matches"), (None, 4, "pytest rejects the arguments")]
)
def test_arguments_that_select_nothing_are_bad_input(
    cells: Cells, tmp_path: Path, selected: tuple[PlannedCell, ...] | None, status: int, what: str
) -> None:
    """A misspelt -k adds no row to the run."""
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


@pytest.mark.parametrize(("status", "code"), [(0, ExitCode.HEALTHY), (1, ExitCode.UNHEALTHY)])
def test_a_trace_of_branches_is_handed_to_who_keeps_it(
    cells: Cells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, code: ExitCode
) -> None:
    """The plan has the selected cells alone."""
    given: list[object] = []
    monkeypatch.setattr("finetune_compat.evidence.branches.save", lambda *what: given.append(what[1:]) or "Not stored.")
    cells.status, cells.selects = status, lambda _: None
    assert run_stack("--branches", "-k", "plain and sft-peft-model") is code
    assert given == [(status, ("-k", "plain and sft-peft-model"))]
    planned = read_plan(tmp_path / "one" / "plans" / f"{STACK}.json").cells
    assert planned and all("plain" in str(cell) and "sft-peft-model" in str(cell) for cell in planned)


def test_while_its_cells_run_a_stack_is_unfinished(cells: Cells) -> None:
    """This is the row of a session that is killed."""
    run_stack()
    [row] = cells.rows_meanwhile
    assert (row.name, row.state) == (STACK, RowState.INFRASTRUCTURE)
    assert row.reason == "its session has not ended: it is still running, or it was killed"


@pytest.mark.parametrize("posargs", [(), ("--faults",), ("--adapters",), ("--overhead",)])
@pytest.mark.usefixtures("cells")
def test_files_of_cells_are_removed_however_they_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, posargs: tuple[str, ...]
) -> None:
    """Models of an interrupted process would fill the disk; files of the run stay."""
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
    """Parallel stacks are one run with one row each, also a stack without cells."""
    run_stack()
    stack_run.record_absent("trl0.4-py311", RowState.UNINSTALLABLE, "no solution found")
    stack_run.record_absent("trl0.5-py311", RowState.INFRASTRUCTURE, "the package registry is out of reach")
    rows = read_rows(tmp_path / "one")
    assert [(row.name, row.state, row.reason) for row in rows] == [
        (STACK, RowState.RAN, ""),
        ("trl0.4-py311", RowState.UNINSTALLABLE, "no solution found"),
        ("trl0.5-py311", RowState.INFRASTRUCTURE, "the package registry is out of reach"),
    ]
    nox_session.finish_run(tmp_path / "one")
    lines = (tmp_path / "one" / "verdicts.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["outcome"] for line in lines][-2:] == ["uninstallable", "infrastructure"]


def test_a_session_that_was_given_no_run_makes_one_and_keeps_it(
    cells: Cells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name sorts by time; the session's next stack writes into the same run."""
    monkeypatch.delenv(stack_run.RUN_ID)
    run_stack()
    stack_run.record_absent("trl0.4-py311", RowState.UNINSTALLABLE, "no solution found")
    [run] = [path for path in tmp_path.iterdir() if not path.is_symlink()]
    assert re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{4}", run.name)
    assert os.environ[stack_run.RUN_ID] == run.name
    assert len(read_rows(run)) == 2


# ------------------------------------------------------------------------------------------------- instead of the cells


@pytest.mark.parametrize(
    ("option", "file"),
    [
        ("--faults", "tests/mutation"),
        ("--faults", "tests/independent_faults"),
        ("--guard", "tests/guard"),
        ("--closed-forms", "tests/families"),
        ("--adapters", "tests/adapters"),
        ("--pipelines", "tests/pipelines"),
        ("--overhead", "overhead.py"),
        ("--guard-overhead", "guard_overhead.py"),
    ],
)
@pytest.mark.parametrize(("status", "code"), [(0, ExitCode.HEALTHY), (1, ExitCode.UNHEALTHY)])
def test_what_runs_instead_of_the_cells_has_its_own_result(
    cells: Cells,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    file: str,
    status: int,
    code: ExitCode,
) -> None:
    """It uses the plan of all cells; there is no row and no verdict, and `latest` is unchanged."""
    b.stored(tmp_path / "before", [b.uninstallable("trl0.4-py311")])
    (tmp_path / "latest").symlink_to("before")
    cells.status, cells.selects = status, lambda _: None
    for keeper in ("faults", "independent_faults"):
        monkeypatch.setattr(f"finetune_compat.evidence.{keeper}.save", lambda *_: "")
    monkeypatch.setattr("finetune_compat.evidence.faults.publish", lambda: None)
    assert run_stack(option) is code
    [command] = cells.commands
    assert any(word.endswith(file) for word in command)
    assert str(tmp_path / "one" / "plans" / f"{STACK}.json") in command
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["plans"]
    assert (tmp_path / "latest").readlink() == Path("before")


# --------------------------------------------------------------------------------------------------------------- tiers


def test_only_the_deep_tier_plans_deep_cells() -> None:
    """The deep tier adds those of its list."""
    versions = {"trl": "0.29.0", "transformers": "4.57.0", "peft": "0.18.0"}
    full = stack_run.planned_cells(Ledger(issues=()), DeviceKind.CPU, versions)
    deep = stack_run.planned_cells(Ledger(issues=()), DeviceKind.CPU, versions, tier=Tier.DEEP)
    assert {(cell.flow, cell.variant) for cell in deep if cell.deep} == set(catalog.DEEP_CELLS)
    assert not any(cell.deep for cell in full)
    assert [str(cell) for cell in deep] == [str(cell) for cell in full]
    alone = stack_run.planned_cells(Ledger(issues=()), DeviceKind.CPU, versions, tier=Tier.DEEP_ONLY)
    assert alone == tuple(cell for cell in deep if cell.deep)


def test_cells_end_when_they_are_stopped(tmp_path: Path) -> None:
    """With all their processes, and long before they would."""
    planned = store_builders.planned(tmp_path / "runs" / "r")
    (tmp_path / "runs" / "r").mkdir(parents=True)
    stop = threading.Event()
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"
    threading.Timer(0.5, stop.set).start()
    begin = time.monotonic()
    status = stack_run.run_process([sys.executable, "-c", child], planned, (), tmp_path / "log.txt", stop)
    assert status != 0
    assert time.monotonic() - begin < 30
