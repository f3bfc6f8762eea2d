"""The nox sessions that run stacks: one for each stack and Python, for example `compat-3.11(trl='0.22')`.

A checkout's noxfile.py imports this file. `compat run` of an installed package passes it to nox directly.
"""

from __future__ import annotations

import atexit
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex

import nox

from finetune_compat.contract import names
from finetune_compat.contract.errors import CompatError, ExitCode
from finetune_compat.machine import child_processes
from finetune_compat.machine.places import places
from finetune_compat.stacks import matrix


def _finish_run() -> None:
    """Write and print the report of a run of several stacks."""
    run = places().runs / os.environ["COMPAT_RUN_ID"]
    if not run.exists():
        return
    from finetune_compat.nox_session import finish_run

    try:
        finish_run(run)
    except CompatError as error:
        print(error, file=sys.stderr)


nox.options.default_venv_backend = "uv"
nox.options.reuse_venv = "yes"
nox.options.envdir = str(places().nox)
# A missing Python is a failure, not a skip.
nox.options.error_on_missing_interpreters = True

# With this variable, no bytecode is cached, and every import of TRL takes 10 s instead of 4 s.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Parallel sessions are separate processes. They inherit this id and write into the same run.
os.environ.setdefault("COMPAT_RUN_ID", f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{token_hex(2)}")
try:
    names.check_run_id(os.environ["COMPAT_RUN_ID"], "COMPAT_RUN_ID")
    MATRIX = matrix.read_matrix()
except CompatError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
# Sessions end with the nox that started them, and nox ends with `compat run`. The first process finishes the run.
FIRST = not child_processes.end_with_parent()
if FIRST:
    atexit.register(_finish_run)
child_processes.adopt()


def _compat_session(python: str) -> None:
    """Register `compat-<python>`, parametrized over the stacks of that Python."""
    stacks = [stack for stack in MATRIX.stacks if python in stack.pythons]

    @nox.session(name=f"compat-{python}", python=python, allow_parallel=True)
    # By name, because nox writes parameters as JSON when sessions run in parallel.
    @nox.parametrize("name", [nox.param(stack.name, id=stack.parameter) for stack in stacks])
    def compat(session: nox.Session, name: str) -> None:
        """Run every flow in the stack's locked environment."""
        # Imported here, so that `nox -l` stays fast.
        from finetune_compat import nox_session
        from finetune_compat.stacks import locks

        env_python = Path(session.virtualenv.location, "bin", "python")
        try:
            # A parallel session is a process that another nox, or `compat run`, started; then FIRST is false.
            outcome = nox_session.run_compat(
                MATRIX, MATRIX.stack(name), python, env_python, session.posargs, alone=FIRST
            )
        except CompatError as error:
            session.error(f"{error}")
        if isinstance(outcome, locks.Unsolvable):
            session.skip(f"no versions go together: {outcome.cause}")
        if outcome is not ExitCode.HEALTHY:
            session.error(nox_session.verdict_sentence(outcome))


for _python in MATRIX.pythons:
    _compat_session(_python)
