"""`compat transplant`: which line, proven. Exchange functions between two releases, and run a cell or a script."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from finetune_compat.bisect.lines import Installed, changed_functions
from finetune_compat.bisect.probe import Bench, subject
from finetune_compat.bisect.transplant import Proof, Ran, prove
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.contract.errors import CompatError, ExitCode
from finetune_compat.contract.options import DeviceChoice
from finetune_compat.gate.inputs import read_side
from finetune_compat.gate.resolve import resolve
from finetune_compat.history.condition import VERDICT, condition
from finetune_compat.machine.console import silent_stdout
from finetune_compat.machine.gpus import kind_of
from finetune_compat.run import stack_run
from finetune_compat.run.options import RunOptions
from finetune_compat.stacks.matrix import read_matrix
from finetune_compat.watch.host import STEPS


@dataclass(frozen=True, slots=True)
class TransplantRequest:
    """The options of one call. None or an empty value means that the option was not given."""

    good: tuple[str, ...]
    bad: tuple[str, ...]
    flow: str | None = None
    cell: str | None = None
    script: str | None = None
    arguments: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    """Functions to exchange, as FILE::FUNCTION. Empty: those on the bad side's chains, until one is proven."""
    hunk: int | None = None
    """The only change of the function to exchange, counted from 1 in the order of the diff."""
    condition: str = VERDICT
    device: DeviceChoice | None = None
    python: str | None = None
    steps: int | None = None


def transplant_command(request: TransplantRequest, *, as_json: bool) -> int:
    """Exchange functions and print what they prove. Exit code 0 if one is proven, else 3.

    Raises:
        CompatError: an option is invalid, the sides do not differ, or the index does not answer.
    """
    with silent_stdout():
        proofs = transplant(request)
    print(json.dumps([asdict(proof) for proof in proofs], indent=1) if as_json else "\n".join(_terminal(proofs)))
    return ExitCode.HEALTHY if any(proof.proven for proof in proofs) else ExitCode.COULD_NOT_TELL


def transplant(request: TransplantRequest) -> tuple[Proof, ...]:
    """Exchange the functions, one at a time.

    Raises:
        CompatError: an option is invalid, the sides do not differ, or the index does not answer.
    """
    if request.hunk is not None and len(request.functions) != 1:
        raise CompatError(
            "--hunk needs one function",
            where=f"--hunk {request.hunk}",
            meaning="It counts the changes of a function.",
            todo="Name the function: --function FILE::FUNCTION.",
        )
    asked = condition(request.condition, None)
    what = subject(request.flow, request.cell, request.script, request.arguments, request.steps or STEPS, asked.tier)
    matrix = read_matrix()
    options = RunOptions(device=request.device or DeviceChoice.AUTO, tier=asked.tier)
    gpus = stack_run.chosen_gpus(options, "compat transplant")
    device = kind_of(gpus)
    bench = Bench(stack_run.this_run(), load_ledger(), what, asked, device, gpus, options, _say)
    sides = [
        resolve(read_side(texts, option, matrix, request.python), " ".join(texts), matrix, device, request.python, _say)
        for texts, option in ((request.good, "--good"), (request.bad, "--bad"))
    ]
    good, bad = (Ran(of, bench.probe(of)) for of in sides)
    one, other = good.environment, bad.environment
    if good.probe.measured.state == bad.probe.measured.state:
        raise CompatError(
            f"both sides give the same: {good.probe.measured.shown}",
            where=f"{good.of.asked}, {bad.of.asked}",
            todo="Name a good and a bad release; `compat bisect` finds them.",
        )
    named = request.functions or _on_the_chains(one, other, bad)
    return tuple(_until_proven(bench, good, bad, named, request))


def _on_the_chains(one: Installed, other: Installed, bad: Ran) -> tuple[str, ...]:
    found = changed_functions(one, other, bad.probe.seen) if bad.probe.seen else ()
    if not found:
        raise CompatError(
            "no function on a freeze chain or an error's stack differs",
            where=f"{bad.of.asked}: {bad.probe.measured.shown}",
            meaning="The result has neither, or what changed is called from elsewhere.",
            todo="Name the function that you suspect: --function FILE::FUNCTION.",
        )
    return tuple(changed.place for changed in found if changed.good_link)


def _until_proven(
    bench: Bench, good: Ran, bad: Ran, named: Sequence[str], request: TransplantRequest
) -> Iterator[Proof]:
    for place in named:
        proof = prove(bench, good, bad, place, request.hunk)
        yield proof
        if proof.proven and not request.functions:
            return


def _terminal(proofs: Sequence[Proof]) -> Iterator[str]:
    for proof in proofs:
        yield proof.place
        yield from (f"    {line}" for line in proof.change)
        yield f"  {proof.good}: {proof.good_shows}"
        yield f"  {proof.bad}: {proof.bad_shows}"
        what = "change" if proof.change else "function"
        yield f"  {proof.good} with the {what} of {proof.bad}: {proof.good_with_bad}"
        yield f"  {proof.bad} with the {what} of {proof.good}: {proof.bad_with_good}"
        breaks = "breaks" if proof.breaks else "does not break"
        repairs = "repairs" if proof.repairs else "does not repair"
        yield f"  {'PROVEN' if proof.proven else 'NOT PROVEN'}: the bad {what} {breaks} the good release, and"
        yield f"  the good {what} {repairs} the bad release"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
