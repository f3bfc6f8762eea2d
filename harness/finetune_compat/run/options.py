"""The options of a run: one value, built and checked once, and passed as data.

`compat run` builds it from typed parameters, and a nox session from the arguments after `--`. `compat run` passes it
to its sessions as a JSON file.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from finetune_compat.contract import catalog
from finetune_compat.contract.catalog import Tier
from finetune_compat.contract.errors import CompatError, why
from finetune_compat.contract.options import HELP, Attention, DeviceChoice, Instead
from finetune_compat.contract.seeds import Seeds, parse_seeds
from finetune_compat.machine.files import write_atomically
from finetune_compat.machine.gpus import USUAL, Wanted
from finetune_compat.machine.units import bytes_of
from finetune_compat.stacks import real_weights
from finetune_compat.stacks.supply import REGISTRY, Supply, supply_of

AFTER_DASHES = "arguments after --"
"""The `where` of a nox session's errors."""

OPTIONS_FILE = "--options"
"""The only option that `compat run` passes to its sessions. Its value is the file that holds the options."""

LIMIT_S = 120.0
"""Time limit of a cell in seconds, after the imports of its stack. A tiny cell takes under 1 s on an idle core."""

REAL_LIMIT_S = 3600.0
"""The same for real weights, which may have to be downloaded first."""

TEST_LIMIT_S = 1800.0
"""The same for a test that runs instead of the cells. It waits for other processes, and their wait for a core on a busy
machine counts. The limit ends the whole session, because there are no workers.
"""

MEMORY_LIMIT = 8 * 2**30
"""Limit of resident memory of a tiny cell's process in bytes: many times the largest measured use
(`machine.capacity`). Real weights have no limit unless one is given.
"""

FEWEST_STEPS = 2
"""lora_B starts at zero, so lora_A receives its first gradient at step 2."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How cells run, where their packages come from, and the arguments for pytest."""

    device: DeviceChoice = DeviceChoice.AUTO
    attention: Attention = Attention.SDPA
    steps: int = catalog.STEPS
    limit: float | None = None
    """Seconds, if given."""
    memory_limit: int | None = None
    """Bytes, if given."""
    tier: Tier = Tier.FULL
    seeds: Seeds | None = None
    """Calibrate the learning test with these seeds instead of running the cells."""
    model: str | None = None
    """Real weights in place of the tiny models: a directory, or a hub id."""
    gpus: Wanted = USUAL
    cells: tuple[str, ...] | None = None
    """Ids of the only cells to run, in their order; None: all."""
    fresh: bool = False
    """Also run cells whose observation is cached. The new observation replaces it."""
    pass_env: tuple[str, ...] = ()
    """Names of environment variables that cells get in addition to those that they need."""
    instead: Instead | None = None
    """What to do in place of running the cells."""
    supply: Supply = REGISTRY
    pytest: tuple[str, ...] = ()
    """Arguments for pytest, as typed."""

    @property
    def limit_s(self) -> float:
        """Seconds a cell may take."""
        if self.limit is not None:
            return self.limit
        if self.instead is not None:
            return TEST_LIMIT_S
        return LIMIT_S if self.model is None else REAL_LIMIT_S

    @property
    def memory_bytes(self) -> int | None:
        """Resident memory a cell's process may hold; None: no limit."""
        if self.memory_limit is not None or self.model is not None or self.instead is not None:
            return self.memory_limit
        return MEMORY_LIMIT


def checked(options: RunOptions, where: str) -> RunOptions:
    """Return `options` with an absolute model path. `where` is the place that errors name.

    Raises:
        CompatError: a value is invalid, two options exclude each other, or the model does not exist.
    """
    if options.instead is not None and options.memory_limit is not None:
        raise CompatError(
            f"--memory-limit does not go with --{options.instead}",
            where=where,
            meaning="The limit ends the worker that exceeds it, and this option runs in one process without workers.",
            todo="Leave one of them out.",
        )
    if options.steps < FEWEST_STEPS or not 0 < options.limit_s < math.inf:
        raise CompatError(
            f"--steps {options.steps} --limit {options.limit_s:g}",
            where=where,
            meaning="Before step 2 half of a LoRA adapter has no gradient to receive; a limit is in seconds.",
            todo=f"Ask for {FEWEST_STEPS} steps or more, and for a limit above 0.",
        )
    gpus = options.gpus
    if not gpus.makes_sense:
        raise CompatError(
            f"--gpus {gpus.most} --gpu-idle-below {gpus.idle_below:g} --gpu-larger-than {gpus.larger_than:g}",
            where=where,
            meaning="No GPU can match these values. The limits are in GB of memory: used by others, and in total.",
            todo="Give --gpus 1 or more, --gpu-idle-below a number above 0, and --gpu-larger-than 0 or more.",
        )
    if options.model is None:
        return options
    tiny_only = "seeds" if options.seeds is not None else options.instead
    if options.tier is Tier.DEEP_ONLY:
        tiny_only = tiny_only or f"tier {options.tier}"
    if tiny_only is not None:
        raise CompatError(
            f"--model does not go with --{tiny_only}",
            where=where,
            meaning="That option needs the tiny models of the harness.",
            todo="Leave one of them out.",
        )
    return dataclasses.replace(options, model=real_weights.checked(options.model))


def parse_options(posargs: Sequence[str]) -> RunOptions:
    """Parse the arguments after `--` of a nox session. Options that are not in `HELP` are passed to pytest.

    Raises:
        CompatError: a value is invalid.
        InstallError: the Python of `--base-python` does not run.
    """
    if posargs and posargs[0] == OPTIONS_FILE:
        return read_options(Path(posargs[1]))
    try:
        found, rest = _parser().parse_known_args(list(posargs))
    except argparse.ArgumentError as error:
        raise CompatError(
            str(error), where=AFTER_DASHES, todo="Correct it. Other options are passed to pytest unchanged."
        ) from None
    given = {"tier": str(Tier.DEFAULT), **vars(found)}
    given |= {name: kind(given[name]) for name, kind in _CHOICES.items() if name in given}
    given |= {"pass_env": tuple(given["pass_env"])} if "pass_env" in given else {}
    gpus = {field: given.pop(field) for field in ("most", "idle_below", "larger_than") if field in given}
    supply = {name: given.pop(name) for name in ("offline", "wheelhouse", "base_python", "base_torch") if name in given}
    options = RunOptions(
        **given,
        gpus=dataclasses.replace(USUAL, **gpus),
        supply=supply_of(**supply, where=AFTER_DASHES),
        pytest=tuple(rest),
    )
    return checked(narrowed(options, named=options.cells is not None or "-k" in rest), AFTER_DASHES)


def narrowed(options: RunOptions, *, named: bool) -> RunOptions:
    """`options`, whose default tier is the full one if it would hide what was asked for.

    Args:
        options: as given.
        named: whether flows, variants or cells were named.
    """
    whole = named or options.model is not None or options.seeds is not None or options.instead is not None
    return dataclasses.replace(options, tier=Tier.FULL) if whole and options.tier is Tier.DEFAULT else options


def _parser() -> argparse.ArgumentParser:
    """Return a parser that stores each given option under the name of its field."""
    parser = argparse.ArgumentParser(
        usage="nox -s SESSION -- [OPTION]... [ARGUMENT OF PYTEST]...",
        add_help=False,
        exit_on_error=False,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )

    one_of = parser.add_mutually_exclusive_group()

    def add(name: str, to: argparse._ActionsContainer = parser, **how: Any) -> None:
        to.add_argument(f"--{name}", help=HELP[name], **how)

    for name, kind in _CHOICES.items():
        add(name, choices=[str(choice) for choice in kind])
    add("steps", type=int)
    add("limit", type=float, metavar="SECONDS")
    add("memory-limit", type=size, metavar="SIZE")
    add("model", metavar="DIRECTORY_OR_ID")
    add("gpus", type=int, dest="most")
    add("gpu-idle-below", type=float, dest="idle_below", metavar="GB")
    add("gpu-larger-than", type=float, dest="larger_than", metavar="GB")
    add("fresh", action="store_true")
    add("pass-env", action="append", metavar="NAME")
    add("offline", action="store_true")
    add("wheelhouse", type=Path, metavar="FOLDER")
    add("base-python", metavar="PYTHON")
    add("base-torch", action="store_true")
    add("cells", type=_cells, metavar="FILE")
    for instead in Instead:
        add(instead, one_of, dest="instead", action="store_const", const=instead)
    add("seeds", one_of, type=parse_seeds, metavar="N_OR_FIRST-LAST")
    parser.add_argument("--help", action="help", help="Show these options.")
    return parser


_CHOICES: Mapping[str, type[StrEnum]] = {"device": DeviceChoice, "attention": Attention, "tier": Tier}


def size(text: str) -> int:
    """Parse an amount of memory into bytes, for example 1500000000, 1500MB or 1.5GiB.

    Raises:
        argparse.ArgumentTypeError: `text` is not an amount of memory.
    """
    amount = bytes_of(text)
    if amount is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount of memory such as 3GiB or 1500MB")
    return amount


def _cells(file: str) -> tuple[str, ...]:
    """Read the cell ids in `file`, one per line."""
    try:
        return tuple(Path(file).read_text(encoding="utf-8").split("\n"))
    except (OSError, UnicodeDecodeError) as error:
        raise CompatError(
            f"cannot be read: {why(error)}", where=file, todo="Give --cells a file with one cell id per line."
        ) from None


def read_options(file: Path) -> RunOptions:
    """Read the options in `file`. They are not checked, because `write_options` wrote them."""
    return _JSON.validate_json(file.read_bytes())


def write_options(options: RunOptions, file: Path) -> None:
    """Write `options` for `read_options`."""
    write_atomically(file, _JSON.dump_json(options, indent=1).decode())


_JSON: TypeAdapter[RunOptions] = TypeAdapter(RunOptions)
