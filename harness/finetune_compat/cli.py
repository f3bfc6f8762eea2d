"""The command line. One catcher: every error a user can meet becomes its message and exit code, never a trace.

Imports of what a command needs stand inside it, so that `compat --help` and the commands that only read start at once.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from finetune_compat.contract.census import LoadDtype, Quantization
from finetune_compat.contract.errors import CompatError, ExitCode, Interrupted
from finetune_compat.contract.records import DeviceKind
from finetune_compat.contract.redaction import redact
from finetune_compat.store.command import app as store_app

if TYPE_CHECKING:
    from finetune_compat.stacks.matrix import LockPlan, Matrix, Stack

COLLECT_AFTER = 1_000_000
"""Objects after which Python collects garbage again. A report of 10,000 cells, of which nothing is garbage, takes 6.3 s
of a core with it and 6.9 s with 100,000 (2026-11-29, load 16); with Python's own 700 half as much again.
"""

app = typer.Typer(
    name="compat",
    help="What breaks when the fine-tuning stack is upgraded, measured.",
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(store_app)


_DEVICE = "cpu, cuda or auto. Not yet measured on a GPU: its verdicts and a CPU's were not compared."


@app.callback()
def _root() -> None:
    """With a callback, a single command is still called by its name."""


@app.command()
def stacks(
    *, as_json: Annotated[bool, typer.Option("--json", help="One JSON array instead of a table.")] = False
) -> None:
    """Every stack of the matrix: what it pins, its day, its Pythons, and what its locks resolved to."""
    from finetune_compat.stacks.matrix import read_matrix

    matrix = read_matrix()
    rows = [_row(matrix, stack) for stack in matrix.stacks]
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        _print_table(rows)


@app.command()
def lock(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[STACK]...", help="Stacks; all of them if none.")
    ] = None,
) -> int:
    """Resolve stacks into matrices/locks/. One that cannot be solved keeps its reason, and the others go on."""
    from finetune_compat.stacks.locks import drop_orphans, exit_code, make_locks, summary
    from finetune_compat.stacks.matrix import read_matrix

    matrix = read_matrix()
    chosen = [matrix.stack(name) for name in names] if names else matrix.stacks
    plans = [plan for stack in chosen for plan in matrix.plans(stack)]
    results = make_locks(plans, _say)
    for name in () if names else drop_orphans(plans):
        _say(f"{name}: removed, no row asks for it")
    _say(summary(results))
    return exit_code(results)


@app.command()
def run(  # noqa: PLR0913 - one parameter an option
    stacks: Annotated[
        list[str] | None, typer.Argument(metavar="[STACK]...", help="Names or globs, such as trl0.22 or 'peft*'.")
    ] = None,
    *,
    axis: Annotated[list[str] | None, typer.Option(help="Rows of a package: trl, transformers, peft.")] = None,
    flows: Annotated[str, typer.Option(help="Names or globs, separated by commas.")] = "",
    variants: Annotated[str, typer.Option(help="Names or globs, such as 'qwen2-nf4-*', separated by commas.")] = "",
    words: Annotated[str, typer.Option("-k", help="Parts of cells' names, with and, or, not, as in pytest.")] = "",
    python: Annotated[str, typer.Option(help="Python of the stacks.")] = "3.11",
    fresh: Annotated[bool, typer.Option("--fresh", help="Run also what the store has.")] = False,
    budget: Annotated[
        str, typer.Option(help="Such as 30m: run what matters most in that time, and say what is left out.")
    ] = "",
    retry: Annotated[
        int, typer.Option("--retry-infrastructure", min=0, help="Run what the machine lost so many times again.")
    ] = 0,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Stacks at once, or their workers; as fit if not given.")
    ] = None,
    device: Annotated[str | None, typer.Option(help=_DEVICE)] = None,
    tier: Annotated[str | None, typer.Option(help="quick, deep or deep-only.")] = None,
    steps: Annotated[str | None, typer.Option(help="Training steps of a cell.")] = None,
    model: Annotated[str | None, typer.Option(help="Real weights: a directory or a hub id.")] = None,
    attention: Annotated[str | None, typer.Option(help="sdpa, eager or flash_attention_2.")] = None,
    limit: Annotated[str | None, typer.Option(help="Seconds a cell may take.")] = None,
    memory_limit: Annotated[str | None, typer.Option(help="Memory a cell's process may hold, such as 3GiB.")] = None,
    gpus: Annotated[str | None, typer.Option(help="At most so many GPUs.")] = None,
    gpu_idle_below: Annotated[str | None, typer.Option(help="GB used by others at most.")] = None,
    gpu_larger_than: Annotated[str | None, typer.Option(help="GB a GPU has at least.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no registry.")] = False,
    wheelhouse: Annotated[str | None, typer.Option(help="Folder of wheels, or an unpacked bundle.")] = None,
    base_python: Annotated[str | None, typer.Option(help="Take the torch of that Python.")] = None,
    base_torch: Annotated[bool, typer.Option("--base-torch", help="Take the torch of this Python.")] = False,
) -> int:
    """Run cells: all that the store does not have, or those named, several stacks at once.

    Stopped at any moment, the same command goes on where it was.
    """
    from finetune_compat.run import command
    from finetune_compat.run.priority import parse_span
    from finetune_compat.run.request import Request
    from finetune_compat.run.selection import Asked
    from finetune_compat.stacks.supply import BASE_TORCH, parse_supply

    passed = {
        "--device": device,
        "--tier": tier,
        "--steps": steps,
        "--model": model,
        "--attention": attention,
        "--limit": limit,
        "--memory-limit": memory_limit,
        "--gpus": gpus,
        "--gpu-idle-below": gpu_idle_below,
        "--gpu-larger-than": gpu_larger_than,
    }
    places = {"--wheelhouse": wheelhouse, "--base-python": base_python}
    flags = {"--offline": offline, BASE_TORCH: base_torch}
    supply, _ = parse_supply([*_given(places), *(name for name, wanted in flags.items() if wanted)], "compat run")
    request = Request(
        asked=Asked(tuple(stacks or ()), tuple(axis or ()), _names(flows), _names(variants), words),
        python=python,
        fresh=fresh,
        budget_s=parse_span(budget, "--budget") if budget else None,
        retries=retry,
        jobs=jobs,
        supply=supply,
        options=_given(passed),
    )
    return command.run(request)


def _given(options: Mapping[str, str | None]) -> tuple[str, ...]:
    return tuple(part for name, value in options.items() if value is not None for part in (name, value))


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


@app.command()
def report(
    run: Annotated[str, typer.Argument(help="Name or directory of a run; `latest` is the newest.")] = "latest",
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the page here as well.")] = None,
    cells: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN", help="Cells that page shows in full, such as 'trl0.22*nf4*'. Goes with --html."
        ),
    ] = None,
) -> int:
    """Judge a stored run again with today's ledger, write its summaries and its page anew, and print them."""
    from finetune_compat.report import report_command

    if cells is not None and html is None:
        raise CompatError(
            "--cells goes with --html",
            where="compat report",
            meaning="Cells are shown in full on a page of their own, beside the one in the run's directory.",
            todo="Say where: --html cells.html.",
        )
    return report_command(run, page=html, cells=cells)


@app.command()
def gate(  # noqa: PLR0913 - one parameter an option
    before: Annotated[
        list[str],
        typer.Option("--from", metavar="SIDE", help="What is in use: a stack, pins, a lock file, or an interpreter."),
    ],
    after: Annotated[list[str], typer.Option("--to", metavar="SIDE", help="What it is to become, likewise.")],
    *,
    flows: Annotated[
        list[str] | None, typer.Option(metavar="FLOW", help="Only these flows; by commas, or repeated.")
    ] = None,
    cell: Annotated[
        list[str] | None,
        typer.Option(metavar="CELL", help="Only this cell, such as 'sft-full\\[qwen2-full-gc]'; may be repeated."),
    ] = None,
    device: Annotated[str | None, typer.Option(help=_DEVICE)] = None,
    python: Annotated[str | None, typer.Option(help="Python of both sides, such as 3.12.")] = None,
    candidates: Annotated[
        int, typer.Option(min=0, help="Other releases to run at most for each cause, in search of a safe one.")
    ] = 6,
    policy: Annotated[Path | None, typer.Option(help="Instead of matrices/gate.toml.")] = None,
    flow: Annotated[
        str | None, typer.Option(metavar="SCRIPT", help="A script of your own instead; its arguments stand after --.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps after which every training of it is ended (10).")] = None,
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[ARGUMENT]...")] = None,
) -> int:
    """May I upgrade? Run both sides and answer ALLOW (exit code 0), HOLD (1) or BLOCK (2).

    3: could not tell. 4: bad input.
    """
    from finetune_compat.gate.command import Asked, gate_command

    asked = Asked(
        tuple(before),
        tuple(after),
        tuple(name.strip() for text in flows or () for name in text.split(",")),
        tuple(cell or ()),
        device,
        python,
        candidates,
        policy,
        flow,
        tuple(arguments or ()),
        steps,
    )
    return gate_command(asked)


@app.command()
def schema() -> None:
    """Write the JSON Schema of a gate's answer anew, beside the code that writes the answer."""
    from finetune_compat.gate.report import answer_json

    _say(f"wrote {answer_json.write_schema()}")


@app.command()
def alarm(
    body: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the issue, if there is one.")],
    run: Annotated[str, typer.Argument(help="Name or directory of a run.")] = "latest",
    link: Annotated[str, typer.Option(help="Where the run can be looked at.")] = "",
) -> int:
    """Did a library release break training? Exit code 1 and an issue if one did, 0 if none, 3 if nothing is known."""
    from finetune_compat.evidence.alarm import alarm_command

    return alarm_command(run, body, link)


@app.command()
def shards(
    jobs: Annotated[int, typer.Option(help="Machines at most.")] = 8,
    baseline: Annotated[str, typer.Option(help="Committed baseline whose durations count.")] = "cpu",
    *,
    as_json: Annotated[bool, typer.Option("--json", help="A matrix of GitHub Actions.")] = False,
) -> None:
    """The whole matrix in parts of even length, to run on several machines."""
    from dataclasses import asdict

    from finetune_compat.evidence.shards import shards_of
    from finetune_compat.stacks.matrix import read_matrix

    parts = shards_of(read_matrix(), jobs, baseline)
    if as_json:
        print(json.dumps({"include": [asdict(part) for part in parts]}))
    else:
        for part in parts:
            _say(f"{part.name}: {part.seconds:.0f} s, {', '.join(part.stacks)}")


@app.command()
def collect(
    parts: Annotated[list[Path], typer.Argument(metavar="PART...", help="Directories of runs.")],
    plan: Annotated[Path, typer.Option(metavar="FILE", help="What `compat shards --json` said.")],
    run: Annotated[Path, typer.Option(metavar="DIR", help="Where to write the whole run.")],
) -> None:
    """Put the runs of several machines together as one; a stack that none of them has is lost, and not green."""
    from finetune_compat.evidence.shards import collect as put_together
    from finetune_compat.evidence.shards import planned

    put_together(planned(plan), parts, run)
    _say(f"wrote {run}")


@app.command()
def keep(
    run: Annotated[str, typer.Argument(help="Name or directory of a finished run.")] = "latest",
    name: Annotated[str, typer.Option(help="Name of the baseline.")] = "cpu",
) -> None:
    """Keep a finished run as reports/baseline/NAME, packed and with its provenance."""
    from finetune_compat.checks.ledger import load_ledger
    from finetune_compat.evidence.baseline import keep as keep_run
    from finetune_compat.report import derive

    target = keep_run(run, name)
    derive(target, load_ledger())
    _say(f"kept as {target}; commit it, and read its summary.md")


@app.command()
def census(  # noqa: PLR0913 - one parameter an option
    subject: Annotated[
        str, typer.Argument(metavar="FAMILY_OR_CONFIG", help="A shipped family, or a config.json.")
    ] = "",
    *,
    families: Annotated[bool, typer.Option("--list", help="List the shipped families.")] = False,
    stack: Annotated[str | None, typer.Option(help="Stack to ask; by default that of the newest TRL.")] = None,
    compare: Annotated[str | None, typer.Option(help="Another stack: show what changes from --stack to it.")] = None,
    quantization: Annotated[Quantization, typer.Option(help="How the linear layers are stored.")] = Quantization.NF4,
    dtype: Annotated[LoadDtype, typer.Option(help="What is not quantized is loaded in.")] = LoadDtype.BF16,
    r: Annotated[int | None, typer.Option("--r", help="LoRA rank; 64 if not given.")] = None,
    alpha: Annotated[int | None, typer.Option(help="LoRA alpha; 16 if not given.")] = None,
    targets: Annotated[
        str | None,
        typer.Option(
            help="Suffixes separated by commas, all-linear, or a regular expression; Llama's seven if not given."
        ),
    ] = None,
    target_parameters: Annotated[
        str | None, typer.Option(help="Suffixes of parameters, separated by commas (PEFT 0.17 or later).")
    ] = None,
    lora: Annotated[Path | None, typer.Option(help="An adapter_config.json instead of the options above.")] = None,
    tree: Annotated[bool, typer.Option("--tree", help="Also where lora_A and lora_B sit.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of tables.")] = False,
) -> int:
    """Who is trainable where: the stage table of a model at full size, without weights, on a stack of the matrix.

    Exit code 1 if a target reaches other than what it names.
    """
    from finetune_compat.census.command import Asked, print_list, run

    if families:
        print_list()
        return ExitCode.HEALTHY
    asked = Asked(
        subject=subject,
        stack=stack,
        other_stack=compare,
        quantization=quantization,
        dtype=dtype,
        adapter_config=lora,
        r=r,
        alpha=alpha,
        targets=targets,
        target_parameters=target_parameters,
    )
    return run(asked, as_json=as_json, tree=tree)


@app.command()
def bundle(
    names: Annotated[list[str], typer.Argument(metavar="STACK...", help="Stacks, such as trl1.16.")],
    *,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for the parts; an earlier bundle there is replaced.")
    ],
    max_size: Annotated[
        str | None, typer.Option(help="What a part may have, such as 60MiB; one part if not given.")
    ] = None,
    python: Annotated[str | None, typer.Option(help="The target's Python; the stack's first if not given.")] = None,
    device: Annotated[DeviceKind, typer.Option(help="What the target runs on.")] = DeviceKind.CUDA,
) -> None:
    """Pack stacks, without torch, for a machine that has torch and no registry: wheels, locks and the harness."""
    from finetune_compat.bundle.command import asked_for, make
    from finetune_compat.stacks.matrix import read_matrix

    matrix = read_matrix()
    make(matrix, asked_for(matrix, names, python, device, max_size), out, _say)


@app.command()
def inspect(
    directory: Annotated[Path, typer.Argument(metavar="ADAPTER_DIR", help="What save_pretrained wrote.")],
    base: Annotated[
        str | None,
        typer.Option(
            metavar="CONFIG_OR_FAMILY", help="Base to load it into: a saved model, its config.json, a family."
        ),
    ] = None,
    stack: Annotated[
        str | None, typer.Option(help="Stack to load it under, such as trl1.16. Goes with --base.")
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as one JSON object.")] = False,
) -> int:
    """Look into a saved adapter without loading a model: was it trained, is it whole, would it load."""
    from finetune_compat.inspect.inspection import as_json as jsonable
    from finetune_compat.inspect.inspection import inspect_adapter
    from finetune_compat.inspect.render import print_inspection

    if (base is None) is not (stack is None):
        raise CompatError(
            "--base and --stack go together",
            where="compat inspect",
            meaning="Whether an adapter loads depends on the base and on the versions that load it.",
            todo="Give both: --base qwen2.5-7b --stack trl1.16.",
        )
    seen = inspect_adapter(directory, base=base, stack=stack)
    if as_json:
        print(json.dumps(jsonable(seen), indent=2, allow_nan=False))
    else:
        print_inspection(seen)
    return seen.exit_code


@app.command(context_settings={"allow_interspersed_args": False})
def watch(
    given: Annotated[
        list[str],
        typer.Argument(metavar="SCRIPT [ARGUMENT]...", help="A script, a notebook, or -- accelerate launch ..."),
    ],
    *,
    python: Annotated[
        str | None, typer.Option(help="Interpreter to run it with; by default that of the active environment.")
    ] = None,
    stack: Annotated[str | None, typer.Option(help="Stack of the matrix to run it on, such as trl0.22.")] = None,
    steps: Annotated[int, typer.Option(help="Steps after which every training is ended.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as one JSON object.")] = False,
) -> int:
    """Run an unmodified training script for a few steps: what is trainable at each stage, and does it learn.

    Exit code 0 healthy, 1 unhealthy, 3 could not tell.
    """
    from finetune_compat.checks.ledger import load_ledger
    from finetune_compat.watch.host import check_script, check_steps, exit_code, of_stack, own_interpreter, run_pipeline
    from finetune_compat.watch.page import as_json as jsonable
    from finetune_compat.watch.page import page

    if python is not None and stack is not None:
        raise CompatError(
            "--python and --stack exclude each other", where="compat watch", todo="Name one environment to run in."
        )
    check_script(given)
    check_steps(steps, "compat watch")
    if stack is None:
        interpreter = own_interpreter(python)
    else:
        from finetune_compat.stacks.ask import stack_python
        from finetune_compat.stacks.matrix import read_matrix

        interpreter = of_stack(stack_python(read_matrix(), stack))
    ledger = load_ledger()
    seen = run_pipeline(given, interpreter, steps)
    print(json.dumps(jsonable(seen, ledger), indent=2, allow_nan=False) if as_json else page(seen, ledger))
    return exit_code(seen)


def _say(line: str) -> None:
    print(line, flush=True)


def _row(matrix: Matrix, stack: Stack) -> dict[str, Any]:
    return {
        "name": stack.name,
        "pin": f"{stack.package}=={stack.pin}",
        "released": stack.released.isoformat(),
        "as_of": stack.as_of.isoformat(),
        "why": stack.why,
        "pythons": list(stack.pythons),
        "locks": {plan.name: _lock_state(plan) for plan in matrix.plans(stack)},
    }


def _lock_state(plan: LockPlan) -> dict[str, Any]:
    from finetune_compat.contract.errors import LockError
    from finetune_compat.stacks.locks import Unsolvable, locked

    try:
        found = locked(plan)
    except LockError as error:
        return {"state": "unusable", "reason": error.what}
    if isinstance(found, Unsolvable):
        return {"state": "unsolvable", "reason": found.cause}
    return {"state": "locked", "sha256": found.sha256, "resolved": dict(found.requirements)}


_SHOWN = ("trl", "transformers", "peft", "bitsandbytes", "accelerate", "datasets")
"""The packages a person asks about, in the order of the table's columns."""

_WIDTH = 128
"""What the table needs for the longest names and versions."""


def _print_table(rows: Sequence[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table("stack", "as of", "python", *_SHOWN, "locks", box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*_cells(row))
    console = Console()
    # Cut-off versions say nothing: a narrow terminal wraps the lines instead.
    console.width = max(console.width, _WIDTH)
    console.print(table)


def _cells(row: dict[str, Any]) -> list[str]:
    states = list(row["locks"].values())
    resolved: dict[str, str] = next((state["resolved"] for state in states if state["state"] == "locked"), {})
    wrong = [
        f"{name}: {state['state']}, {state['reason']}" for name, state in row["locks"].items() if "reason" in state
    ]
    fine = f"{len(states)} locked"
    versions = [resolved.get(package, "-") for package in _SHOWN]
    return [row["name"], row["as_of"], " ".join(row["pythons"]), *versions, "\n".join(wrong) or fine]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its code."""
    gc.set_threshold(COLLECT_AFTER)
    try:
        code = app(arguments, standalone_mode=False)
    except CompatError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    except typer.TyperException as error:
        # Typer's own code for a wrong option is 2; ours says the same thing for files and for options.
        print(f"{redact(error.format_message())}\nSee `compat --help`.", file=sys.stderr)
        sys.exit(ExitCode.BAD_INPUT)
    except OSError as error:
        print(f"{error.filename or 'this machine'}: {error.strerror}\nNothing was half-written.", file=sys.stderr)
        sys.exit(ExitCode.COULD_NOT_TELL)
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        sys.exit(stop.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(code or ExitCode.HEALTHY)
