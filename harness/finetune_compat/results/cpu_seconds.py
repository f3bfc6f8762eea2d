"""The CPU seconds of a baseline's cells: `cpu-seconds.json.gz` beside its observations.

An observation has the wall-clock time of its cell, which is longer on a busy machine. The CPU seconds are measured
outside the cell, so they are no part of the observation. Cells of older harnesses, and cells on GPUs, have none.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from finetune_compat.contract.errors import RecordsError, why
from finetune_compat.machine.files import write_atomically
from finetune_compat.machine.foreign import expanded

CPU_SECONDS = "cpu-seconds.json.gz"

_BY_CELL = TypeAdapter(dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]])


def read_cpu_seconds(run: Path) -> dict[str, float]:
    """CPU seconds by cell of a baseline; of no cell if it has no such file.

    Raises:
        RecordsError: the file is not valid.
    """
    path = run / CPU_SECONDS
    if not path.exists():
        return {}
    try:
        return _BY_CELL.validate_json(expanded(path))
    except ValidationError as error:
        problem = str(error).splitlines()[0]
    except (ValueError, OSError, EOFError, zlib.error) as error:
        problem = why(error)
    raise RecordsError(
        "not the CPU seconds of a baseline",
        where=str(path),
        meaning=problem,
        todo="Take the file from the commit that added the baseline, or remove it.",
    )


def write_cpu_seconds(run: Path, seconds: Mapping[str, float]) -> None:
    """Write the CPU seconds of a baseline's cells into its directory. Nothing is written if no cell has any."""
    if seconds:
        text = json.dumps(seconds, indent=0, sort_keys=True)
        write_atomically(run / CPU_SECONDS, gzip.compress(text.encode(), mtime=0))
