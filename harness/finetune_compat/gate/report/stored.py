"""The answer of an earlier gate, read from the files of its run."""

from __future__ import annotations

import shutil
from pathlib import Path

from pydantic import ValidationError

from finetune_compat.contract.errors import RecordsError, why
from finetune_compat.gate.decision import Gate, GateExit
from finetune_compat.gate.report import answer_json
from finetune_compat.gate.report.terminal import print_gate
from finetune_compat.machine.files import refuse_directory
from finetune_compat.results.run_files import find_run

_JSON = "gate.json"


def is_gate(run: str) -> bool:
    """Whether the run called `run` is that of a gate.

    Raises:
        UnknownName: there is no such run.
    """
    return (find_run(run) / _JSON).exists()


def read_gate(path: Path) -> Gate:
    """The answer in a `gate.json`.

    Raises:
        RecordsError: the file is not the answer of a gate of this version.
    """
    try:
        return answer_json.parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        problem = str(error).splitlines()[0] if isinstance(error, ValidationError) else why(error)
        raise RecordsError(
            f"not the answer of a gate: {problem}",
            where=str(path),
            meaning="The file was edited, cut off in the middle, or written by another version of the harness.",
            todo="Run the gate again.",
        ) from None


def print_stored(run: str, page: Path | None = None, *, details: bool = False) -> GateExit:
    """Print the answer of the gate called `run`, and copy its page to `page`.

    Raises:
        UnknownName: there is no such run.
        RecordsError: its answer cannot be read.
        CompatError: `page` is a directory.
    """
    directory = find_run(run)
    gate = read_gate(directory / _JSON)
    if page is not None:
        refuse_directory(page, "--html", "page.html")
        shutil.copyfile(directory / "gate.html", page)
    print_gate(gate, details=details)
    return gate.decision.exit_code
