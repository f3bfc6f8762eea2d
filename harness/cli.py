"""The command line. One catcher: every error a user can meet becomes its message and exit code, never a trace.

Imports of what a command needs stand inside it, so that `compat --help` and the commands that only read start at once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from harness.census.facts import LoadDtype, Quantization
from harness.errors import CompatError, ExitCode

if TYPE_CHECKING:
    from harness.matrix import LockPlan, Matrix, Stack

app = typer.Typer(
    name="compat",
    help="What breaks when the fine-tuning stack is upgraded, measured.",
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _root() -> None:
    """With a callback, a single command is still called by its name."""


@app.command()
def stacks(
    *, as_json: Annotated[bool, typer.Option("--json", help="One JSON array instead of a table.")] = False
) -> None:
    """Every stack of the matrix: what it pins, its day, its Pythons, and what its locks resolved to."""
    from harness.matrix import read_matrix

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
    from harness.locks import drop_orphans, exit_code, make_locks, summary
    from harness.matrix import read_matrix

    matrix = read_matrix()
    chosen = [matrix.stack(name) for name in names] if names else matrix.stacks
    plans = [plan for stack in chosen for plan in matrix.plans(stack)]
    results = make_locks(plans, _say)
    for name in () if names else drop_orphans(plans):
        _say(f"{name}: removed, no row asks for it")
    _say(summary(results))
    return exit_code(results)


@app.command()
def report(
    run: Annotated[str, typer.Argument(help="Name or directory of a run; `latest` is the newest.")] = "latest",
) -> int:
    """Judge a stored run again with today's ledger, write its summaries anew, and print them."""
    from harness.report import report_command

    return report_command(run)


@app.command()
def keep(
    run: Annotated[str, typer.Argument(help="Name or directory of a finished run.")] = "latest",
    name: Annotated[str, typer.Option(help="Name of the baseline.")] = "cpu",
) -> None:
    """Keep a finished run as reports/baseline/NAME, packed and with its provenance."""
    from harness.baseline import keep as keep_run
    from harness.ledger import load_ledger
    from harness.report import derive

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
    from harness.census.command import Asked, print_list, run

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
def notes() -> None:
    """Write reports/field-notes.md anew: the users' statements beside what is counted and measured."""
    from harness import notes as field_notes

    _say(f"wrote {field_notes.write()}")


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
    from harness.adapter.inspection import as_json as jsonable
    from harness.adapter.inspection import inspect_adapter
    from harness.adapter.render import print_inspection

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
    from harness.report.pipeline import as_json as jsonable
    from harness.report.pipeline import page
    from harness.watch import exit_code, of_stack, own_interpreter, run_pipeline

    if python is not None and stack is not None:
        raise CompatError(
            "--python and --stack exclude each other", where="compat watch", todo="Name one environment to run in."
        )
    if stack is None:
        interpreter = own_interpreter(python)
    else:
        from harness.matrix import read_matrix
        from harness.stack_python import stack_python

        interpreter = of_stack(stack_python(read_matrix(), stack))
    seen = run_pipeline(given, interpreter, steps)
    print(json.dumps(jsonable(seen), indent=2, allow_nan=False) if as_json else page(seen))
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
    from harness.errors import LockError
    from harness.locks import Unsolvable, locked

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
    try:
        code = app(arguments, standalone_mode=False)
    except CompatError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    except typer.TyperException as error:
        # Typer's own code for a wrong option is 2; ours says the same thing for files and for options.
        print(f"{error.format_message()}\nSee `compat --help`.", file=sys.stderr)
        sys.exit(ExitCode.BAD_INPUT)
    except OSError as error:
        print(f"{error.filename or 'this machine'}: {error.strerror}\nNothing was half-written.", file=sys.stderr)
        sys.exit(ExitCode.COULD_NOT_TELL)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(code or ExitCode.HEALTHY)
