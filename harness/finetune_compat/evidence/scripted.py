"""Runs the scripts of `tests/exam/issues/`, which show known issues, on any set of versions.

Such a script is plain user code that asserts what is right. It ends with status 0 where the issue is not, and with the
error of its ledger entry where the issue is.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from finetune_compat.bisect.probe import Probe
from finetune_compat.checks.ledger import Issue, Scripted
from finetune_compat.contract.errors import Fault, MatrixError
from finetune_compat.contract.verdict import Outcome, Symptom, Verdict
from finetune_compat.gate.resolved import Resolved
from finetune_compat.gate.sides import prepared
from finetune_compat.history.condition import Measured
from finetune_compat.machine.places import places
from finetune_compat.stacks.ask import cell_environ
from finetune_compat.stacks.locks import Unsolvable

LIMIT_S = 600.0
"""Seconds that a script may take. On an idle machine it takes less than 30, nearly all of it for imports."""

_TRACEBACK = "Traceback (most recent call last):"
_ERROR = re.compile(r"^(?:\w+\.)*(\w+(?:: .*)?)$", re.MULTILINE)
"""The line after the frames of a traceback: the error's type without its module, and the message."""


def script_file(name: str) -> Path:
    """The path of a script, relative to the checkout."""
    return Path("tests/exam/issues", f"{name}.py")


@dataclass(frozen=True, slots=True)
class ScriptBench:
    """Runs one script of an issue on sets of versions."""

    issue: Issue
    scripted: Scripted
    run: Path
    """The run directory. It gets the reason where there is no environment."""

    @property
    def subject(self) -> str:
        """The path of the script, relative to the checkout."""
        return script_file(self.scripted.script).as_posix()

    @property
    def sha256(self) -> str:
        """The digest of the script, in hexadecimal.

        Raises:
            MatrixError: there is no such script.
        """
        return hashlib.sha256(self._path.read_bytes()).hexdigest()

    @property
    def _path(self) -> Path:
        path = places().the_checkout("compat windows") / self.subject
        if not path.is_file():
            fault = Fault("script", f"there is no {self.subject}")
            raise MatrixError(str(places().ledger), (fault,), todo="Write the script, or correct its name.")
        return path

    def probe(self, of: Resolved) -> Probe:
        """Run the script on these versions. The verdict is an xfail where it ends as the ledger says, a pass where it
        ends with status 0, and `infrastructure` where it could not run.

        Raises:
            CompatError: there is no such script, or an environment cannot be made and its versions are not at fault.
        """
        path = self._path
        stack = prepared(of, self.run)
        versions: Mapping[str, str] = {}
        if stack is None or isinstance(of.lock, Unsolvable):
            return Probe(of.stack, versions, Measured(None, "no environment"), ran=False)
        versions = {**of.lock.requirements, "torch": of.plan.torch}
        verdict = self._verdict(of.stack, ending(stack.python, path))
        return Probe(of.stack, versions, Measured(None, verdict.reason), verdict, python=stack.python)

    def _verdict(self, stack: str, ended: str | None) -> Verdict:
        if ended is None:
            return Verdict(stack, Outcome.INFRASTRUCTURE, f"it took longer than {LIMIT_S:g} s", Symptom.UNKNOWN)
        if not ended:
            return Verdict(stack, Outcome.PASS, "it ends with status 0", Symptom.UNKNOWN)
        if not ended.startswith(self.scripted.error):
            return Verdict(stack, Outcome.FAIL, f"not as listed: {ended}", Symptom.ERROR)
        return Verdict(stack, Outcome.XFAIL, f"{self.issue.id}: {ended}", Symptom.ERROR, issues=(self.issue.id,))


def ending(python: Path, script: Path) -> str | None:
    """How a script ends on an interpreter without network: its error as `Type: message` (the first line, paths in the
    environment relative to it), empty for status 0, None if it takes longer than `LIMIT_S`.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [str(python), "-P", str(script)],
                cwd=folder,
                env=cell_environ(()),
                capture_output=True,
                text=True,
                check=False,
                timeout=LIMIT_S,
            )
        except subprocess.TimeoutExpired:
            return None
    if not done.returncode:
        return ""
    return error_of(done.stderr).replace(f"{python.parent.parent}/", "") or f"status {done.returncode}"


def error_of(stderr: str) -> str:
    """The error of the last traceback, as `Type: message` without the type's module; empty without a traceback."""
    _, found, after = stderr.rpartition(_TRACEBACK)
    error = _ERROR.search(after) if found else None
    return error[1] if error else ""
