"""Equal sides: every decision is counted, and a decision that is not ALLOW is seen."""

from __future__ import annotations

from dataclasses import replace

import builders as b
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.contract.records import Observation
from finetune_compat.evidence.false_alarms import judge_all
from finetune_compat.gate.policy import load_policy

LEDGER = load_ledger()
POLICY = load_policy(LEDGER)


def run(seed: int = 0, **changes: object) -> list[Observation]:
    """One run of two cells."""
    return [replace(b.healthy(flow, b.FULL), seed=seed, **changes) for flow in ("sft-peft-config", "sft-full")]  # type: ignore[arg-type]


def test_every_two_runs_of_a_seed_are_decided_both_ways() -> None:
    """Three runs of one seed are six decisions, two runs of another are two."""
    found = judge_all([*run(), *run(), *run(), *run(1), *run(1)], LEDGER, POLICY)
    assert found.decisions == {"ALLOW": 8}
    assert (found.runs, found.spread, found.identical) == (5, (), True)
    assert found.cells == ("sft-full[qwen2-full-gc]", "sft-peft-config[qwen2-full-gc]")


def test_a_run_that_differs_is_seen() -> None:
    """A frozen adapter in one of two runs is a regression in one direction."""
    broken = [b.frozen(run()[0]), *run()[1:]]
    found = judge_all([*run(), *broken], LEDGER, POLICY)
    assert sum(found.decisions.values()) == 2 and found.decisions.get("ALLOW", 0) < 2
    assert found.spread and not found.identical


def test_times_are_no_difference() -> None:
    """Two runs never take the same time."""
    found = judge_all([*run(), *run(duration_s=9.0, started_at="2026-01-01T00:00:00+00:00")], LEDGER, POLICY)
    assert found.identical and found.spread == ()
