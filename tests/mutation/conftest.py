"""Fixtures of the tests of planted faults: each test records which check named its fault, for the host."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from finetune_compat.checks import Verdict
from finetune_compat.contract.plan import Plan
from finetune_compat.contract.records import Observation, to_json


@pytest.fixture(scope="session", autouse=True)
def _begin(plan: Plan) -> None:
    """Delete the records of an earlier run with the same name."""
    plan.faults_file.unlink(missing_ok=True)


@pytest.fixture
def noted(plan: Plan) -> Callable[[str, Observation, Verdict], None]:
    """Record that a fault, by name, was named by the only check at the root of the verdict."""

    def note(fault: str, seen: Observation, verdict: Verdict) -> None:
        [code] = verdict.failing
        said = next(opinion.message for opinion in verdict.opinions if opinion.code == code)
        line = {"fault": fault, "check": code, "said": said, "observation": json.loads(to_json(seen))}
        plan.faults_file.parent.mkdir(parents=True, exist_ok=True)
        with plan.faults_file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(line) + "\n")

    return note
