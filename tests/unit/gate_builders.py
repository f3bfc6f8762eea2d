"""Both sides of a gate, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import builders as b
from finetune_compat.checks.ledger import Ledger
from finetune_compat.contract.records import Observation, Variant
from finetune_compat.gate.decide import Compared, decide
from finetune_compat.gate.decision import Gate, Rule, SafeTarget, Side
from finetune_compat.gate.defaults import Defaults
from finetune_compat.gate.policy import Exempted, load_policy
from finetune_compat.results.run_files import RowState

BEFORE, AFTER = "trl0.19-py311", "trl0.22-py311"
TRL = {BEFORE: "0.19.1", AFTER: "0.22.2"}
TODAY = date(2026, 11, 24)


def side(stack: str, **changes: Any) -> Side:
    """A side whose cells ran."""
    made = Side(
        asked=f"trl=={TRL[stack]}",
        stack=stack,
        rule=Rule.ROW,
        as_of=date(2025, 9, 1),
        versions=b.on_trl(TRL[stack]),
        not_followed=(),
        lock_sha256="5f" * 32,
        state=RowState.RAN,
        reason="",
    )
    return replace(made, **changes)


def cell(stack: str, flow: str = "sft-peft-model", variant: Variant = b.NF4) -> Observation:
    """A healthy cell."""
    return b.healthy(flow, variant, stack=stack, versions=b.on_trl(TRL[stack]))


def compared(
    before: Sequence[Observation],
    after: Sequence[Observation],
    *,
    ledger: Ledger = b.UNLISTED,
    exceptions: tuple[Exempted, ...] = (),
    **changes: Any,
) -> Compared:
    """The input of a decision on these cells. A side without cells cannot be installed."""
    sides, rows = [], []
    for stack, seen in ((BEFORE, before), (AFTER, after)):
        rows.append(b.ran(*seen) if seen else b.uninstallable(stack))
        unsolved = {} if seen else {"state": RowState.UNINSTALLABLE, "reason": rows[-1].reason, "versions": {}}
        sides.append(side(stack, **unsolved))
    made = Compared(
        before=sides[0],
        after=sides[1],
        results=b.results_of(rows, *before, *after, ledger=ledger),
        ledger=ledger,
        policy=replace(load_policy(ledger), exceptions=exceptions),
        today=TODAY,
        command="compat gate --from trl==0.19.1 --to trl==0.22.2",
        narrowed="",
        left_out=(),
    )
    return replace(made, **changes)


def gate(
    before: Sequence[Observation],
    after: Sequence[Observation],
    targets: dict[str, SafeTarget] | None = None,
    **more: Any,
) -> Gate:
    """The answer on these cells."""
    return decide(compared(before, after, **more), Defaults(()), targets or {})
