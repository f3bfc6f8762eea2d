"""`matrices/gate.toml` as frozen values: the decision on each change, exceptions with an expiry date, and flows that
are compared only where they are named.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from finetune_compat.checks.comparison import Change
from finetune_compat.checks.ledger import Ledger
from finetune_compat.contract.catalog import CATALOG
from finetune_compat.contract.errors import Fault, MatrixError
from finetune_compat.contract.verdict import Kind, Verdict
from finetune_compat.gate.decision import Decision
from finetune_compat.machine.foreign import parsed_toml, read_text
from finetune_compat.machine.places import places

NEVER_ALLOWED = (Change.LOST_COVERAGE, Change.INCONCLUSIVE)

PLATFORM = "on_this_platform"

_EFFECTS = {"allow": Decision.ALLOW, "hold": Decision.HOLD, "block": Decision.BLOCK}
_STATED = tuple(change for change in Change if change is not Change.INCONCLUSIVE)
_EXCEPTION_KEYS = ("flow", "issue", "change", "reason", "expires")


@dataclass(frozen=True, slots=True)
class Exempted:
    """An exception. None stands for every flow, issue or change."""

    flow: str | None
    issue: str | None
    change: Change | None
    reason: str
    expires: date

    def covers(self, flow: str, change: Change, issues: tuple[str, ...]) -> bool:
        """Whether the exception applies to a cell with these facts.

        An exception for an issue does not cover a cell that shows another issue too. No exception covers a change in
        `NEVER_ALLOWED`.
        """
        return (
            change not in NEVER_ALLOWED
            and self.flow in (None, flow)
            and self.change in (None, change)
            and (self.issue is None or issues == (self.issue,))
        )

    def expired(self, today: date) -> bool:
        """Whether `today` is after its last day."""
        return today > self.expires


@dataclass(frozen=True, slots=True)
class Policy:
    """The whole file."""

    effects: Mapping[Change, Decision]
    on_this_platform: Decision
    exceptions: tuple[Exempted, ...]
    only_if_named: tuple[str, ...] = ()
    """Flows that are compared only where the user names them."""

    def effect(self, change: Change, verdict: Verdict | None, ledger: Ledger) -> Decision:
        """The decision on a change, before exceptions. `verdict` is the candidate's."""
        if change is Change.INCONCLUSIVE:
            return Decision.COULD_NOT_TELL
        kinds = {issue.kind for issue in ledger.issues if verdict and issue.id in verdict.issues}
        return (
            self.on_this_platform if change is Change.REGRESSED and kinds == {Kind.PLATFORM} else self.effects[change]
        )


def load_policy(ledger: Ledger, path: Path | None = None, script: str | None = None) -> Policy:
    """Read the policy in `path`. Exceptions may name issues of `ledger`, and the user's script called `script`.

    Raises:
        MatrixError: the file is missing, not TOML, or invalid. The error lists every fault with its place.
    """
    path = path or places().policy
    where = places().shown(path)
    try:
        raw = parsed_toml(read_text(path))
    except (OSError, ValueError) as error:
        problem = f"cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error).removeprefix("is ")
        raise MatrixError(where, (Fault("", problem),), todo=_TODO) from None
    faults = [
        Fault(key, "is not a key this file knows")
        for key in raw
        if key not in ("effects", "exception", "only_if_named")
    ]
    effects = _effects(raw.get("effects", {}), faults)
    exceptions = _exceptions(raw.get("exception", []), ledger, script, faults)
    named = _only_if_named(raw.get("only_if_named", []), faults)
    if faults:
        raise MatrixError(where, tuple(faults), todo=_TODO)
    return Policy({change: effects[change.name.lower()] for change in _STATED}, effects[PLATFORM], exceptions, named)


_TODO = "Correct each of these places; the file's own comments say what they hold."


def _effects(raw: Any, faults: list[Fault]) -> dict[str, Decision]:
    names = (*(change.name.lower() for change in _STATED), PLATFORM)
    if not isinstance(raw, dict):
        faults.append(Fault("effects", f"must be a table, not {raw!r}"))
        return {}
    faults += [Fault(f"effects.{name}", "is not a change this file knows") for name in raw if name not in names]
    faults += [Fault(f"effects.{name}", "is missing") for name in names if name not in raw]
    never = {change.name.lower() for change in NEVER_ALLOWED}
    for name, word in raw.items():
        if not isinstance(word, str) or word not in _EFFECTS:
            faults.append(Fault(f"effects.{name}", f"must be allow, hold or block, not {word!r}"))
        elif name in never and word == "allow":
            faults.append(Fault(f"effects.{name}", "can never be allowed: nothing would be known of these cells"))
    return {name: _EFFECTS[word] for name, word in raw.items() if isinstance(word, str) and word in _EFFECTS}


def _only_if_named(raw: Any, faults: list[Fault]) -> tuple[str, ...]:
    if not isinstance(raw, list):
        faults.append(Fault("only_if_named", f"must be a list of flows, not {raw!r}"))
        return ()
    known = [flow.name for flow in CATALOG]
    faults += [Fault("only_if_named", f"there is no flow {name!r}") for name in raw if name not in known]
    if {*known} <= {name for name in raw if isinstance(name, str)}:
        faults.append(Fault("only_if_named", "names every flow: nothing would be compared"))
    return tuple(name for name in raw if name in known)


def _exceptions(raw: Any, ledger: Ledger, script: str | None, faults: list[Fault]) -> tuple[Exempted, ...]:
    if not isinstance(raw, list):
        faults.append(Fault("exception", "must be a list of tables: write [[exception]]"))
        return ()
    read = []
    for place, item in enumerate(raw):
        found = [Fault(f"exception[{place}]{at}", problem) for at, problem in _exception_faults(item, ledger, script)]
        faults += found
        if not found:
            change = Change[item["change"].upper()] if "change" in item else None
            read.append(Exempted(item.get("flow"), item.get("issue"), change, item["reason"], item["expires"]))
    return tuple(read)


def _exception_faults(item: Any, ledger: Ledger, script: str | None) -> list[tuple[str, str]]:
    if not isinstance(item, dict):
        return [("", f"must be a table, not {item!r}")]
    flows, issues = [flow.name for flow in CATALOG], [issue.id for issue in ledger.issues]
    changes = [change.name.lower() for change in _STATED]
    faults = [(f".{key}", "is not a key of an exception") for key in item if key not in _EXCEPTION_KEYS]
    if "flow" not in item and "issue" not in item:
        faults.append(("", "names neither a flow nor an issue: it would accept everything"))
    for key, known in (("flow", flows), ("issue", issues), ("change", changes)):
        # Further trainers of a script are numbered.
        own = (
            key == "flow" and script is not None and re.fullmatch(rf"{re.escape(script)}(-[0-9]+)?", str(item.get(key)))
        )
        if key in item and item[key] not in known and not own:
            faults.append((f".{key}", f"there is no {key} {item[key]!r}"))
    if item.get("change") in [change.name.lower() for change in NEVER_ALLOWED]:
        faults.append((".change", "can never be allowed: nothing would be known of these cells"))
    if not isinstance(item.get("reason"), str) or not item["reason"].strip():
        faults.append((".reason", "is missing: every exception needs a reason"))
    # A TOML date-time is a date too, in Python.
    if type(item.get("expires")) is not date:
        faults.append((".expires", "is missing or not a date (example: 2027-01-31, without quotes)"))
    return faults
