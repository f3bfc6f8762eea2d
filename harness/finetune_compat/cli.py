"""The command line. `main` turns every expected error into its message and exit code, without a stack trace.

Commands import what they need when they are called, so that `compat --help` starts fast.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from finetune_compat.contract.catalog import STEPS, Tier
from finetune_compat.contract.census import LoadDtype, Quantization
from finetune_compat.contract.errors import CompatError, ExitCode, Interrupted
from finetune_compat.contract.options import HELP, Attention, DeviceChoice, EngineChoice
from finetune_compat.contract.records import DeviceKind
from finetune_compat.contract.redaction import redact
from finetune_compat.contract.version import __version__
from finetune_compat.machine.gpus import USUAL, Wanted
from finetune_compat.machine.guarded_output import guarded_output
from finetune_compat.machine.interruption import ending_tools
from finetune_compat.machine.places import places, write_runs_to
from finetune_compat.store.command import app as store_app

if TYPE_CHECKING:
    from finetune_compat.stacks.matrix import LockPlan, Matrix, Stack

COLLECT_AFTER = 1_000_000
"""Objects after which Python collects garbage again. A report of 10,000 cells, of which nothing is garbage, takes 6.3 s
of a core with it and 6.9 s with 100,000 (2026-11-29, load 16); with Python's own 700 half as much again.
"""

app = typer.Typer(
    name="compat",
    help="Measure what breaks when the fine-tuning stack (TRL, PEFT, Transformers, bitsandbytes) is upgraded.",
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(store_app)


Out = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Directory of runs; by default COMPAT_OUT, a checkout's reports/runs, or compat-reports."
    ),
]


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - called by Typer
    if wanted:
        print(f"compat {__version__}")
        raise typer.Exit


def _size(text: str) -> int:
    """Bytes of an amount of memory."""
    from finetune_compat.run.options import size

    try:
        return size(text)
    except argparse.ArgumentTypeError as error:
        raise typer.BadParameter(str(error)) from None


@app.callback()
def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Hold the options of `compat` itself."""


@app.command()
def doctor(
    *, as_json: Annotated[bool, typer.Option("--json", help="One JSON array instead of a table.")] = False
) -> int:
    """Check what runs need on this machine: Pythons, uv, torch, GPUs and directories. Say how to install the rest.

    Exit code 3 if something is missing.
    """
    from finetune_compat.doctor import doctor as examine

    return examine(as_json=as_json)


@app.command()
def stacks(
    *, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array instead of a table.")] = False
) -> None:
    """List the stacks of the matrix: pin, day of the other packages, Pythons, and resolved versions."""
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
        list[str] | None, typer.Argument(metavar="[STACK]...", help="Stacks to resolve. Default: all.")
    ] = None,
) -> int:
    """Resolve stacks into matrices/locks/. For a stack without a solution the reason is stored instead."""
    from finetune_compat.stacks.locks import drop_orphans, exit_code, make_locks, summary
    from finetune_compat.stacks.matrix import read_matrix

    places().the_checkout("compat lock")
    matrix = read_matrix()
    chosen = [matrix.stack(name) for name in names] if names else matrix.stacks
    plans = [plan for stack in chosen for plan in matrix.plans(stack)]
    results = make_locks(plans, _say)
    for name in () if names else drop_orphans(plans):
        _say(f"{name}: removed, because no stack of the matrix uses it")
    _say(summary(results))
    return exit_code(results)


@app.command()
def refresh(
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing. Exit code 1 if rows must be added or moved.")
    ] = False,
) -> int:
    """Read the package index: add rows for new minors, move rows to newer patches, lock what pip installs today."""
    from datetime import UTC, datetime

    from finetune_compat.stacks.refresh import refresh as follow_the_index

    return follow_the_index(datetime.now(UTC).date(), _say, check=check)


@app.command()
def run(  # noqa: PLR0913 - one parameter an option
    stacks: Annotated[
        list[str] | None,
        typer.Argument(metavar="[STACK]...", help="Names or globs, for example trl0.22 or 'peft*'. Default: all."),
    ] = None,
    *,
    axis: Annotated[
        list[str] | None, typer.Option(help="Stacks that vary this package: trl, transformers or peft.")
    ] = None,
    flows: Annotated[str, typer.Option(help="Flows: names or globs, separated by commas.")] = "",
    variants: Annotated[
        str, typer.Option(help="Variants: names or globs, such as 'qwen2-nf4-*', separated by commas.")
    ] = "",
    words: Annotated[str, typer.Option("-k", help="Parts of cell names with and, or, not, as in pytest.")] = "",
    python: Annotated[str, typer.Option(help="Python version of the stacks.")] = "3.11",
    fresh: Annotated[bool, typer.Option("--fresh", help=HELP["fresh"])] = False,
    budget: Annotated[
        str, typer.Option(help="Time limit, such as 30m. Runs the most important cells first and lists those left out.")
    ] = "",
    retry: Annotated[
        int,
        typer.Option(
            "--retry-infrastructure", min=0, help="Retry cells lost to infrastructure failures up to N times."
        ),
    ] = 0,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", min=1, help="Parallel stacks or workers. Default: from cores and memory."),
    ] = None,
    engine: Annotated[
        EngineChoice, typer.Option(help="nox on this machine, or a Ray cluster (docs/cluster.md).")
    ] = EngineChoice.NOX,
    address: Annotated[
        str | None,
        typer.Option(help="Ray cluster, such as 10.0.0.1:6379. Default: RAY_ADDRESS, or a Ray on this machine."),
    ] = None,
    device: Annotated[DeviceChoice, typer.Option(help=HELP["device"])] = DeviceChoice.AUTO,
    tier: Annotated[Tier, typer.Option(help=HELP["tier"])] = Tier.DEFAULT,
    steps: Annotated[int, typer.Option(help=HELP["steps"])] = STEPS,
    model: Annotated[str | None, typer.Option(help=HELP["model"])] = None,
    attention: Annotated[Attention, typer.Option(help=HELP["attention"])] = Attention.SDPA,
    limit: Annotated[float | None, typer.Option(help=HELP["limit"])] = None,
    memory_limit: Annotated[int | None, typer.Option(parser=_size, metavar="SIZE", help=HELP["memory-limit"])] = None,
    gpus: Annotated[int, typer.Option(help=HELP["gpus"])] = USUAL.most,
    gpu_idle_below: Annotated[float, typer.Option(help=HELP["gpu-idle-below"])] = USUAL.idle_below,
    gpu_larger_than: Annotated[float, typer.Option(help=HELP["gpu-larger-than"])] = USUAL.larger_than,
    pass_env: Annotated[list[str] | None, typer.Option("--pass-env", metavar="NAME", help=HELP["pass-env"])] = None,
    offline: Annotated[bool, typer.Option("--offline", help=HELP["offline"])] = False,
    wheelhouse: Annotated[Path | None, typer.Option(help=HELP["wheelhouse"])] = None,
    base_python: Annotated[str | None, typer.Option(help=HELP["base-python"])] = None,
    base_torch: Annotated[bool, typer.Option("--base-torch", help=HELP["base-torch"])] = False,
    out: Out = None,
) -> int:
    """Run the selected cells that are not cached, several stacks in parallel. Default: the default tier of all stacks.

    Safe to interrupt: run the same command again to resume.
    """
    from finetune_compat.run import command
    from finetune_compat.run.options import RunOptions, checked, narrowed
    from finetune_compat.run.priority import parse_span
    from finetune_compat.run.request import WHERE, RunRequest
    from finetune_compat.run.selection import AskedCells
    from finetune_compat.stacks.supply import supply_of

    if address is not None and engine is not EngineChoice.RAY:
        raise CompatError(
            "--address needs --engine ray",
            where=WHERE,
            meaning="Without it the cells run on this machine.",
            todo="Add --engine ray, or leave the address out.",
        )
    write_runs_to(out)
    options = RunOptions(
        device=device,
        attention=attention,
        steps=steps,
        limit=limit,
        memory_limit=memory_limit,
        tier=tier,
        model=model,
        gpus=Wanted(gpus, gpu_idle_below, gpu_larger_than),
        fresh=fresh,
        pass_env=tuple(pass_env or ()),
        supply=supply_of(
            where=WHERE, offline=offline, wheelhouse=wheelhouse, base_python=base_python, base_torch=base_torch
        ),
    )
    request = RunRequest(
        asked=AskedCells(tuple(stacks or ()), tuple(axis or ()), _names(flows), _names(variants), words),
        python=python,
        budget_s=parse_span(budget, "--budget") if budget else None,
        retries=retry,
        jobs=jobs,
        engine=engine,
        address=address,
        options=checked(narrowed(options, named=bool(flows or variants or words)), WHERE),
    )
    return command.run(request)


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


@app.command()
def report(
    run: Annotated[str, typer.Argument(help="Name or directory of a run.")] = "latest",
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the HTML page to this file.")] = None,
    cells: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN", help="Cells to show in full on that page, such as 'trl0.22*nf4*'. Needs --html."
        ),
    ] = None,
    *,
    details: Annotated[bool, typer.Option("--details", help="Of a gate: print every cause and difference.")] = False,
    out: Out = None,
) -> int:
    """Judge a stored run with today's checks and known issues, and write and print its reports.

    Of the run of a gate: print its answer.
    """
    from finetune_compat.gate.report import stored
    from finetune_compat.report import report_command

    write_runs_to(out)
    if stored.is_gate(run):
        return stored.print_stored(run, page=html, details=details)
    if cells is not None and html is None:
        raise CompatError(
            "--cells needs --html",
            where="compat report",
            meaning="Full cells are shown on a separate page, in addition to the page in the run's directory.",
            todo="Name the file for that page: --html cells.html.",
        )
    return report_command(run, page=html, cells=cells)


@app.command()
def gate(  # noqa: PLR0913 - one parameter an option
    before: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            metavar="SIDE",
            help="Versions in use: a stack, pins, a project, a lock file or an environment. Default: the project here.",
        ),
    ] = None,
    after: Annotated[
        list[str] | None, typer.Option("--to", metavar="SIDE", help="Versions to upgrade to, in the same forms.")
    ] = None,
    *,
    upgrade: Annotated[
        list[str] | None,
        typer.Option(metavar="PACKAGE", help="In place of --to: move this package, and only what must follow."),
    ] = None,
    flows: Annotated[
        list[str] | None,
        typer.Option(metavar="FLOW", help="Only these flows; separated by commas, or repeat the option."),
    ] = None,
    cell: Annotated[
        list[str] | None,
        typer.Option(metavar="CELL", help="Only this cell, such as 'sft-full\\[qwen2-full-gc]'; may be repeated."),
    ] = None,
    device: Annotated[DeviceChoice | None, typer.Option(help=HELP["device"])] = None,
    python: Annotated[str | None, typer.Option(help="Python version of both sides, such as 3.12.")] = None,
    candidates: Annotated[
        int,
        typer.Option(min=0, help="Maximum number of other releases to run for each cause, to find one that passes."),
    ] = 6,
    policy: Annotated[Path | None, typer.Option(help="Policy file. Default: matrices/gate.toml.")] = None,
    flow: Annotated[
        str | None,
        typer.Option(metavar="SCRIPT", help="Compare your own script instead of flows. Its arguments follow --."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="With --flow: stop each training after this many steps. Default: 10.")
    ] = None,
    limit: Annotated[float | None, typer.Option(metavar="SECONDS", help=HELP["limit"])] = None,
    until: Annotated[
        str,
        typer.Option(
            metavar="answered|decided|complete",
            help="decided: end as soon as BLOCK is certain, and search no release. complete: also run the cells that "
            "tell nothing new of a BLOCK.",
        ),
    ] = "answered",
    cached: Annotated[
        bool,
        typer.Option("--cached", help="Answer from the committed baselines: start nothing, never say ALLOW."),
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Also run cached cells, and build again what did not build before.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print gate.json alone on stdout.")] = False,
    details: Annotated[bool, typer.Option("--details", help="Print every cause and difference.")] = False,
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[ARGUMENT]...")] = None,
    out: Out = None,
) -> int:
    """May I upgrade? Run both sides and answer ALLOW (exit code 0), HOLD (1) or BLOCK (2).

    Exit code 3: could not tell. 4: bad input.
    """
    from finetune_compat.gate.command import GateRequest, Until, gate_command

    write_runs_to(out)
    if until not in tuple(Until):
        raise CompatError(
            f"{until!r} is not a moment at which a gate can end",
            where="--until",
            todo="Use answered, decided or complete.",
        )
    request = GateRequest(
        tuple(before or (".",)),
        tuple(after or ()),
        tuple(name.strip() for text in flows or () for name in text.split(",")),
        tuple(cell or ()),
        device,
        python,
        candidates,
        policy,
        flow,
        tuple(arguments or ()),
        steps,
        tuple(name.strip() for text in upgrade or () for name in text.split(",")),
        limit,
        Until(until),
        cached=cached,
        as_json=as_json,
        details=details,
        fresh=fresh,
    )
    return gate_command(request)


@app.command()
def bisect(  # noqa: PLR0913 - one parameter an option
    package: Annotated[str, typer.Option(help="Package whose releases to search: trl, transformers, peft, ...")],
    *,
    flow: Annotated[str | None, typer.Option(help="Flow of the catalog to run; its first cell.")] = None,
    cell: Annotated[
        str | None, typer.Option(metavar="CELL", help="Cell to run, such as 'sft-full\\[qwen2-full-gc]'.")
    ] = None,
    script: Annotated[
        str | None, typer.Option(metavar="FILE", help="Your own script to run. Its arguments follow --.")
    ] = None,
    condition: Annotated[
        str,
        typer.Option(
            help="What to search for: verdict, a check code such as C104, or an expression over the observation, such "
            "as 'stages.trainer.trainable == 0'."
        ),
    ] = "verdict",
    tolerance: Annotated[
        float | None,
        typer.Option(help="The condition is a number; search where it changes by more than this share, such as 1e-3."),
    ] = None,
    releases: Annotated[
        str, typer.Option(metavar="SPECIFIER", help="Only these releases, such as '>=0.19,<0.24'.")
    ] = "",
    sample: Annotated[int, typer.Option(min=2, help="Number of releases to run first, spread evenly.")] = 16,
    device: Annotated[DeviceChoice | None, typer.Option(help=HELP["device"])] = None,
    python: Annotated[str | None, typer.Option(help="Python version, such as 3.12.")] = None,
    steps: Annotated[int | None, typer.Option(help="With --script: stop each training after this many steps.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    issue: Annotated[bool, typer.Option("--issue", help="Print the text of an upstream issue.")] = False,
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[ARGUMENT]...")] = None,
    out: Out = None,
) -> int:
    """Since when? Find the releases of a package between which a result changes: last good, first bad, and so on.

    Safe to interrupt: results of cells are cached, run the same command again to resume. Exit code 3: no change found.
    """
    from finetune_compat.bisect.command import BisectRequest, bisect_command

    write_runs_to(out)
    request = BisectRequest(
        package,
        flow,
        cell,
        script,
        tuple(arguments or ()),
        condition,
        tolerance,
        releases,
        sample,
        device,
        python,
        steps,
    )
    return bisect_command(request, as_json=as_json, issue=issue)


@app.command()
def blame(  # noqa: PLR0913 - one parameter an option
    before: Annotated[
        list[str],
        typer.Option("--from", metavar="SIDE", help="One side: a stack, pins, a lock file or an interpreter."),
    ],
    after: Annotated[list[str], typer.Option("--to", metavar="SIDE", help="The other side, in the same forms.")],
    *,
    flow: Annotated[str | None, typer.Option(help="Flow of the catalog to run; its first cell.")] = None,
    cell: Annotated[
        str | None, typer.Option(metavar="CELL", help="Cell to run, such as 'sft-full\\[qwen2-full-gc]'.")
    ] = None,
    script: Annotated[
        str | None, typer.Option(metavar="FILE", help="Your own script to run. Its arguments follow --.")
    ] = None,
    condition: Annotated[
        str, typer.Option(help="What differs, as for `compat bisect`. Default: the verdict, else every drift.")
    ] = "",
    tolerance: Annotated[float | None, typer.Option(help="The condition is a number; ignore this share.")] = None,
    device: Annotated[DeviceChoice | None, typer.Option(help=HELP["device"])] = None,
    python: Annotated[str | None, typer.Option(help="Python version of both sides, such as 3.12.")] = None,
    steps: Annotated[int | None, typer.Option(help="With --script: stop each training after this many steps.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[ARGUMENT]...")] = None,
    out: Out = None,
) -> int:
    """Which package? Find the smallest set of package changes that makes two sides differ, and prove it both ways.

    Exit code 3: not proven.
    """
    from finetune_compat.bisect.blame import BlameRequest, blame_command

    write_runs_to(out)
    request = BlameRequest(
        tuple(before),
        tuple(after),
        flow,
        cell,
        script,
        tuple(arguments or ()),
        condition,
        tolerance,
        device,
        python,
        steps,
    )
    return blame_command(request, as_json=as_json)


@app.command()
def transplant(  # noqa: PLR0913 - one parameter an option
    good: Annotated[list[str], typer.Option(metavar="SIDE", help="Versions that are good, such as trl==0.23.1.")],
    bad: Annotated[list[str], typer.Option(metavar="SIDE", help="Versions that are bad, such as trl==0.23.0.")],
    *,
    flow: Annotated[str | None, typer.Option(help="Flow of the catalog to run; its first cell.")] = None,
    cell: Annotated[
        str | None, typer.Option(metavar="CELL", help="Cell to run, such as 'sft-full\\[qwen2-full-gc]'.")
    ] = None,
    script: Annotated[
        str | None, typer.Option(metavar="FILE", help="Your own script to run. Its arguments follow --.")
    ] = None,
    function: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE::FUNCTION",
            help="Function to exchange; may be repeated. Default: those on the freeze chain or the error's stack.",
        ),
    ] = None,
    hunk: Annotated[
        int | None, typer.Option(min=1, help="Exchange only this change of the function, counted from 1.")
    ] = None,
    condition: Annotated[str, typer.Option(help="What is bad, as for `compat bisect`.")] = "verdict",
    device: Annotated[DeviceChoice | None, typer.Option(help=HELP["device"])] = None,
    python: Annotated[str | None, typer.Option(help="Python version of both sides, such as 3.12.")] = None,
    steps: Annotated[int | None, typer.Option(help="With --script: stop each training after this many steps.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[ARGUMENT]...")] = None,
    out: Out = None,
) -> int:
    """Which line? Exchange a function between two releases, in scratch copies, and run the cell or script on both.

    PROVEN (exit code 0): the bad function breaks the good release, and the good one repairs the bad release. Else 3.
    """
    from finetune_compat.bisect.prove import TransplantRequest, transplant_command

    write_runs_to(out)
    request = TransplantRequest(
        tuple(good),
        tuple(bad),
        flow,
        cell,
        script,
        tuple(arguments or ()),
        tuple(function or ()),
        hunk,
        condition,
        device,
        python,
        steps,
    )
    return transplant_command(request, as_json=as_json)


@app.command()
def windows(
    issues: Annotated[
        list[str] | None, typer.Argument(metavar="[ISSUE]...", help="Known issues, such as 'trl#3926'. Default: all.")
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
    out: Out = None,
) -> int:
    """Measure whether windows of known issues begin and end at these releases: matrices/windows.json.

    Each edge takes two runs of a cell or a script: the neighbouring release replaces the one inside, and nothing else
    moves.
    """
    from finetune_compat.evidence.windows import windows_command

    write_runs_to(out)
    return windows_command(tuple(issues or ()), as_json=as_json)


@app.command()
def schema() -> None:
    """Write the JSON Schema of gate.json to the file that the package contains."""
    from finetune_compat.gate.report import answer_json

    places().the_checkout("compat schema")
    _say(f"wrote {answer_json.write_schema()}")


@app.command()
def known(
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing. Exit code 1 if the file differs from what would be written.")
    ] = False,
) -> int:
    """Derive what gates know before they run, and the default tier, from the committed baselines."""
    from finetune_compat.evidence.known import known_file, made, write_known

    if not check:
        _say(f"wrote {' and '.join(map(str, write_known()))}")
        return ExitCode.HEALTHY
    same = known_file().read_text(encoding="utf-8") == made()
    _say(f"{known_file()}: {'up to date' if same else 'out of date. Make it again: compat known'}")
    return ExitCode.HEALTHY if same else ExitCode.UNHEALTHY


@app.command()
def alarm(
    body: Annotated[Path, typer.Option(metavar="FILE", help="File for the text of the issue, if there is one.")],
    run: Annotated[str, typer.Argument(help="Name or directory of a run.")] = "latest",
    link: Annotated[str, typer.Option(help="URL of the run, for the issue.")] = "",
) -> int:
    """Did a library release break training? Exit code 1 and an issue if one did, 0 if not, 3 if it could not tell."""
    from finetune_compat.evidence.alarm import alarm_command

    return alarm_command(run, body, link)


@app.command()
def shards(
    jobs: Annotated[int, typer.Option(help="Maximum number of machines.")] = 8,
    baseline: Annotated[str, typer.Option(help="Committed baseline to take durations from.")] = "cpu",
    *,
    device: Annotated[DeviceKind, typer.Option(help="Device of the cells.")] = DeviceKind.CPU,
    tier: Annotated[Tier, typer.Option(help=HELP["tier"])] = Tier.FULL,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="New directory for plan.json and the cells of each part, part-N.txt."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a job matrix for GitHub Actions.")] = False,
    scaling: Annotated[
        bool, typer.Option("--scaling", help="Print what more cores and GPUs save, and write reports/benchmarks/.")
    ] = False,
) -> None:
    """Split the cells of the matrix into parts of similar duration, to run on several machines.

    A machine runs its part with `nox -s SESSIONS -- --cells DIR/part-N.txt`, and with --device and --tier as here.
    """
    from finetune_compat.evidence.scaling import write_page
    from finetune_compat.evidence.shards import job_matrix, shards_of, write_shards
    from finetune_compat.stacks.matrix import read_matrix

    if scaling:
        print(write_page(baseline), end="")
        return
    parts = shards_of(read_matrix(), jobs, baseline, device, tier)
    if out is not None:
        write_shards(parts, out)
    if as_json:
        print(job_matrix(parts))
        return
    for part in parts:
        _say(f"{part.name}: {part.seconds:.0f} s, {len(part.ids):,} cells, {', '.join(part.stacks)}")


@app.command()
def collect(
    parts: Annotated[list[Path], typer.Argument(metavar="PART...", help="Run directories to merge.")],
    plan: Annotated[Path, typer.Option(metavar="FILE", help="The plan.json of `compat shards --out`.")],
    run: Annotated[Path, typer.Option(metavar="DIR", help="Directory for the merged run.")],
) -> None:
    """Merge runs of several machines into one. A cell that no part has is reported as an infrastructure failure."""
    from finetune_compat.evidence.shards import collect as put_together
    from finetune_compat.evidence.shards import planned

    put_together(planned(plan), parts, run)
    _say(f"wrote {run}")


@app.command()
def keep(
    run: Annotated[str, typer.Argument(help="Name or directory of a finished run.")] = "latest",
    name: Annotated[str, typer.Option(help="Name of the baseline.")] = "cpu",
    flows: Annotated[
        str, typer.Option(help="Flows the run was asked for, separated by commas. Default: all flows.")
    ] = "",
    variants: Annotated[
        str, typer.Option(help="Variants the run was asked for: names or globs, separated by commas. Default: all.")
    ] = "",
) -> None:
    """Copy a finished run to reports/baseline/NAME, packed and with its provenance."""
    from finetune_compat.evidence.baseline import save

    target = save(run, name, _names(flows), _names(variants))
    _say(f"copied to {target}; read its summary.md, and commit it")


@app.command()
def renew(
    name: Annotated[str, typer.Argument(metavar="[BASELINE]", help="Baseline to measure again.")] = "cpu",
    *,
    stacks: Annotated[
        str, typer.Option(help="Only measure these stacks now: names or globs, separated by commas.")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--list", "--dry-run", help="Say what is out of date and how long it takes. Run nothing.")
    ] = False,
    background: Annotated[
        bool, typer.Option("--background", help="Return at once, and write the output to a file.")
    ] = False,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Parallel stacks or workers.")] = 1,
    out: Out = None,
) -> int:
    """Measure what is out of date of a committed baseline, at the lowest priority, and replace it when all is measured.

    Safe to interrupt or kill: run the same command again to resume. Until the end the baseline is unchanged.
    """
    from finetune_compat.evidence import renew as renewing

    write_runs_to(out)
    request = renewing.RenewRequest(name, _names(stacks), jobs)
    if dry_run:
        return renewing.list_only(request)
    return renewing.in_background(request) if background else renewing.renew(request)


@app.command()
def atlas() -> None:
    """Write reports/atlas from all committed baselines: what works with what, since when and until when."""
    from finetune_compat.atlas.command import atlas_command

    _say(f"written to {places().shown(atlas_command())}: index.html, atlas.md and atlas.json")


@app.command()
def hidden(
    baseline: Annotated[str, typer.Argument(help="Name of a baseline, or name or directory of a run.")] = "cpu",
) -> int:
    """Add faults to the xfails of a baseline, and count those that stay hidden. Exit code 1 if there are any."""
    from finetune_compat.evidence.hidden import hidden_command

    return hidden_command(baseline)


@app.command()
def census(  # noqa: PLR0913 - one parameter an option
    subject: Annotated[
        str, typer.Argument(metavar="FAMILY_OR_CONFIG", help="A family of --list, or a config.json.")
    ] = "",
    *,
    families: Annotated[bool, typer.Option("--list", help="List the model families.")] = False,
    stack: Annotated[str | None, typer.Option(help="Stack to use. Default: that of the newest TRL.")] = None,
    compare: Annotated[str | None, typer.Option(help="Show what changes from --stack to this stack.")] = None,
    quantization: Annotated[Quantization, typer.Option(help="Quantization of the linear layers.")] = Quantization.NF4,
    dtype: Annotated[LoadDtype, typer.Option(help="Dtype of everything that is not quantized.")] = LoadDtype.BF16,
    r: Annotated[int | None, typer.Option("--r", help="LoRA rank. Default: 64.")] = None,
    alpha: Annotated[int | None, typer.Option(help="LoRA alpha. Default: 16.")] = None,
    targets: Annotated[
        str | None,
        typer.Option(
            help="Suffixes separated by commas, all-linear, or a regular expression. Default: the seven of Llama."
        ),
    ] = None,
    target_parameters: Annotated[
        str | None, typer.Option(help="Suffixes of parameters, separated by commas. Needs PEFT 0.17 or later.")
    ] = None,
    lora: Annotated[
        Path | None, typer.Option(help="Take the LoRA configuration from this adapter_config.json.")
    ] = None,
    tree: Annotated[bool, typer.Option("--tree", help="Also show where lora_A and lora_B are.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> int:
    """Count what would be trainable at each stage in a full-size model, without weights, on a stack of the matrix.

    Exit code 1 if a target matches other modules than it names.
    """
    from finetune_compat.census.command import CensusRequest, print_list, run

    if families:
        print_list()
        return ExitCode.HEALTHY
    request = CensusRequest(
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
    return run(request, as_json=as_json, tree=tree)


@app.command()
def bundle(
    names: Annotated[list[str], typer.Argument(metavar="STACK...", help="Stacks to pack, such as trl1.16.")],
    *,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Directory for the parts. An earlier bundle there is replaced.")
    ],
    max_size: Annotated[
        str | None, typer.Option(help="Maximum size of a part, such as 60MiB. Default: one part.")
    ] = None,
    python: Annotated[
        str | None, typer.Option(help="Python version of the target. Default: the stack's first.")
    ] = None,
    device: Annotated[DeviceKind, typer.Option(help="Device of the target.")] = DeviceKind.CUDA,
) -> None:
    """Pack stacks for a machine that has torch and no registry: wheels without torch, locks and the harness."""
    from finetune_compat.bundle.command import asked_for, make
    from finetune_compat.stacks.matrix import read_matrix

    root, matrix = places().the_checkout("compat bundle"), read_matrix()
    make(matrix, asked_for(matrix, names, python, device, max_size), out, _say, root)


@app.command()
def inspect(
    directory: Annotated[Path, typer.Argument(metavar="ADAPTER_DIR", help="Directory that save_pretrained wrote.")],
    base: Annotated[
        str | None,
        typer.Option(
            metavar="CONFIG_OR_FAMILY", help="Base model to load it into: a saved model, its config.json, or a family."
        ),
    ] = None,
    stack: Annotated[str | None, typer.Option(help="Stack to load it with, such as trl1.16. Needs --base.")] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON object.")] = False,
) -> int:
    """Check a saved adapter without loading a model: was it trained, is it complete, would it load?"""
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


@app.command()
def affected(
    path: Annotated[
        Path | None,
        typer.Argument(help="Project directory, lock file, requirements file or environment. Default: the active one."),
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    sarif: Annotated[bool, typer.Option("--sarif", help="Print SARIF 2.1.0, for code scanning.")] = False,
    github: Annotated[bool, typer.Option("--github", help="Print annotations for GitHub Actions.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of --json, and end.")] = False,
) -> int:
    """Which known issues do these versions fall into? Reads files; runs and downloads nothing.

    Exit code 0: none. 1: at least one. 3: no package of the ledger is named. 4: bad input.
    """
    from finetune_compat.affected.command import affected as answer
    from finetune_compat.affected.command import form_of

    return answer(path, form_of("compat affected", json=as_json, sarif=sarif, github=github, schema=schema))


@app.command()
def advisories(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory for the files.")] = Path("advisories"),
) -> None:
    """Write the bugs of the ledger as OSV advisories, for pip-audit, uv audit and osv-scanner."""
    from finetune_compat.affected.advisories import advisories as records
    from finetune_compat.affected.advisories import write_advisories
    from finetune_compat.affected.proofs import read_proofs
    from finetune_compat.checks.ledger_file import shipped_ledger

    for path in write_advisories(directory, records(shipped_ledger(), read_proofs())):
        print(path)


@app.command()
def audit(
    path: Annotated[Path, typer.Argument(help="Script, notebook or project directory.")] = Path(),
    *,
    lock: Annotated[
        Path | None, typer.Option(help="Lock file, project file or environment. Default: the nearest project file.")
    ] = None,
    release: Annotated[
        str, typer.Option("--for", metavar="RELEASE", help="What must change before this upgrade, such as trl==1.16.")
    ] = "",
    fix: Annotated[bool, typer.Option("--fix", help="Print the changes as a diff. No file is written.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    sarif: Annotated[bool, typer.Option("--sarif", help="Print SARIF 2.1.0, for code scanning.")] = False,
    github: Annotated[bool, typer.Option("--github", help="Print annotations for GitHub Actions.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of --json, and end.")] = False,
) -> int:
    """Does this code train as it seems to? Reads scripts and notebooks, and never runs or imports them.

    Exit code 0: no pattern. 1: at least one hit. 3: only a run decides. 4: bad input.
    """
    from finetune_compat.affected.command import form_of
    from finetune_compat.audit.command import audit_command

    form = form_of("compat audit", json=as_json, sarif=sarif, github=github, schema=schema)
    return audit_command(path, form, lock=lock, wanted=release, fix=fix)


@app.command(context_settings={"allow_interspersed_args": False})
def watch(
    given: Annotated[
        list[str],
        typer.Argument(metavar="SCRIPT [ARGUMENT]...", help="A script, a notebook, or -- accelerate launch ..."),
    ],
    *,
    python: Annotated[
        str | None, typer.Option(help="Python interpreter to run it with. Default: that of the active environment.")
    ] = None,
    stack: Annotated[str | None, typer.Option(help="Run it on this stack of the matrix, such as trl0.22.")] = None,
    steps: Annotated[int, typer.Option(help="Stop each training after this many steps.")] = 10,
    limit: Annotated[float, typer.Option(min=1, help="Seconds that the script may take before it is ended.")] = 3600,
    packages: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="PACKAGE", help="Package that the environment lacks; may be repeated."),
    ] = None,
    after: Annotated[
        bool | None,
        typer.Option(
            "--after/--no-after",
            help="Load again what the script saves, and its best checkpoint, and compare. Default: below 1 GiB.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON object.")] = False,
) -> int:
    """Run an unmodified training script for a few steps: what is trainable at each stage, and does it learn?

    Exit code 0: healthy. 1: unhealthy. 3: could not tell. 4: bad input.
    """
    import dataclasses

    from finetune_compat.checks.ledger_file import load_ledger
    from finetune_compat.watch.host import (
        check_script,
        check_steps,
        exit_code,
        of_stack,
        own_interpreter,
        run_pipeline,
        temporary_folder,
    )
    from finetune_compat.watch.page import as_json as jsonable
    from finetune_compat.watch.page import page, verdicts_on

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
    with temporary_folder() as folder:
        if packages:
            from finetune_compat.stacks.added import add_packages

            add_packages(interpreter.python, packages, Path(folder))
            interpreter = dataclasses.replace(interpreter, added=Path(folder))
        seen = run_pipeline(given, interpreter, steps, limit_s=limit, after=after)
    verdicts = verdicts_on(seen, ledger)
    print(json.dumps(jsonable(seen, verdicts), indent=2, allow_nan=False) if as_json else page(seen, verdicts, ledger))
    return exit_code(verdicts)


def _say(line: str) -> None:
    print(line, flush=True)


def _row(matrix: Matrix, stack: Stack) -> dict[str, Any]:
    return {
        "name": stack.name,
        "pin": stack.pinned,
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
"""Packages of the table, in the order of its columns."""

_WIDTH = 128
"""Width of the table in characters, for the longest names and versions."""


def _print_table(rows: Sequence[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table("stack", "as of", "python", *_SHOWN, "locks", box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*_cells(row))
    console = Console()
    # A narrow terminal wraps the lines, because truncated versions are useless.
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
    with guarded_output():
        try:
            with ending_tools():
                _main(arguments)
        except Interrupted as stop:
            print(stop, file=sys.stderr)
            sys.exit(stop.exit_code)


def _main(arguments: Sequence[str] | None) -> NoReturn:
    try:
        code = app(arguments, standalone_mode=False)
    except CompatError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    except typer.TyperException as error:
        # Typer's exit code for an invalid option is 2; `compat` uses one code for all invalid input, files included.
        print(f"{redact(error.format_message())}\nSee `compat --help`.", file=sys.stderr)
        sys.exit(ExitCode.BAD_INPUT)
    except OSError as error:
        print(f"{error.filename or 'this machine'}: {error.strerror}\nNo file was left incomplete.", file=sys.stderr)
        sys.exit(ExitCode.COULD_NOT_TELL)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(code or ExitCode.HEALTHY)
