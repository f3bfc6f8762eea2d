"""The command `compat census`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

from finetune_compat.census import lora as loras
from finetune_compat.census import terminal
from finetune_compat.census.compare import compared
from finetune_compat.census.families import families, find
from finetune_compat.census.lora import Lora
from finetune_compat.census.taken import Taken, take
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.contract.census import LoadDtype, Quantization
from finetune_compat.contract.errors import CompatError, ExitCode
from finetune_compat.stacks.ask import stack_python
from finetune_compat.stacks.matrix import Matrix, read_matrix


@dataclass(frozen=True, slots=True)
class CensusRequest:
    """The options of one call. None and empty text mean that an option was not given."""

    subject: str
    stack: str | None
    other_stack: str | None
    quantization: Quantization
    dtype: LoadDtype
    adapter_config: Path | None
    r: int | None
    alpha: int | None
    targets: str | None
    target_parameters: str | None


def print_list() -> None:
    """Print the shipped model families."""
    terminal.print_families(families())


def run(asked: CensusRequest, *, as_json: bool, tree: bool) -> ExitCode:
    """Take one census, or two for a comparison, and print the result.

    Returns:
        UNHEALTHY if there is a finding; in a comparison, if there is one on the second stack.

    Raises:
        CompatError: an option, a file or a stack is invalid.
    """
    matrix = read_matrix()
    subject, lora = find(asked.subject), lora_of(asked)
    # Look up both names before building anything for the first stack.
    stacks = [matrix.stack(name).name for name in (asked.stack or newest_stack(matrix), asked.other_stack) if name]
    taken = [
        take(subject, stack_python(matrix, stack), lora, asked.quantization, asked.dtype, load_ledger())
        for stack in stacks
    ]
    if len(taken) == 1:
        print(terminal.as_json(taken[0])) if as_json else terminal.print_census(taken[0], tree=tree)
    else:
        _print_both(*taken, as_json=as_json, tree=tree)
    return taken[-1].exit_code


def _print_both(before: Taken, after: Taken, *, as_json: bool, tree: bool) -> None:
    changes = compared(before, after)
    if as_json:
        print(terminal.comparison_as_json(before, after, changes))
    else:
        terminal.print_comparison(before, after, changes, tree=tree)


def newest_stack(matrix: Matrix) -> str:
    """Name of the stack with the newest TRL."""
    return max((stack for stack in matrix.stacks if stack.package == "trl"), key=lambda stack: Version(stack.pin)).name


def lora_of(asked: CensusRequest) -> Lora:
    """The LoRA configuration from the options or from `--lora`.

    Raises:
        CompatError: both are given, or the configuration is invalid.
    """
    given = [name for name in ("r", "alpha", "targets", "target_parameters") if getattr(asked, name) is not None]
    if asked.adapter_config is None:
        return loras.from_options(
            loras.RANK if asked.r is None else asked.r,
            loras.ALPHA if asked.alpha is None else asked.alpha,
            ",".join(loras.TARGETS) if asked.targets is None else asked.targets,
            asked.target_parameters or "",
        )
    if given:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise CompatError(
            f"--lora and {names} cannot be combined",
            where="compat census",
            meaning="The file contains the whole LoRA configuration.",
            todo="Use either --lora or the other options.",
        )
    return loras.from_file(asked.adapter_config)
