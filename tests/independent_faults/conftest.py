"""Healthy runs, verdicts, and the file of results, for the tests of independent faults."""

from __future__ import annotations

import dataclasses
import faulthandler
import functools
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from finetune_compat.cell import runner
from finetune_compat.checks import Verdict, judge
from finetune_compat.contract.catalog import flow_named
from finetune_compat.contract.plan import Plan, PlannedCell
from finetune_compat.contract.records import Observation, to_json
from truth import Truth, truth_of

OfHealthy = Callable[[PlannedCell, int, int], Truth]
"""By cell, seed, and number of micro-batches."""


RUNS = 12
"""A test may run this many flows: healthy and faulty ones under a witness, the cell, and the flows of the deep tier."""


@pytest.fixture(autouse=True)
def _limit(plan: Plan) -> Iterator[None]:
    """End the process when a test exceeds the time limit of all its cells, in place of the limit of one."""
    faulthandler.dump_traceback_later(RUNS * plan.limit_s, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="session", autouse=True)
def _begin(plan: Plan) -> None:
    """Delete the results of an earlier run under the same name."""
    plan.independent_faults_file.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def of_healthy(plan: Plan) -> OfHealthy:
    """The truth of healthy runs; each is run once."""

    @functools.cache
    def run(planned: PlannedCell, seed: int, micro_batches: int) -> Truth:
        seeded = dataclasses.replace(plan, seed=seed)
        truth = truth_of(seeded, planned, lambda: None, micro_batches=micro_batches)
        assert truth.error is None, f"{planned} is not healthy here: {truth.error}"
        return truth

    return run


@pytest.fixture(scope="session")
def judged(plan: Plan) -> Callable[[PlannedCell], tuple[Observation, Verdict]]:
    """Run a cell as the harness does, and judge it with all checks."""

    def run(planned: PlannedCell) -> tuple[Observation, Verdict]:
        seen = runner.run_cell(plan, planned)
        return seen, judge(seen, flow_named(planned.flow), planned.listed)

    return run


@pytest.fixture(scope="session")
def noted(plan: Plan) -> Callable[[dict[str, Any], Observation | None], None]:
    """Write one result into the run, with the observation that was judged."""

    def note(result: dict[str, Any], seen: Observation | None) -> None:
        line = {**result, "observation": None if seen is None else json.loads(to_json(seen))}
        plan.independent_faults_file.parent.mkdir(parents=True, exist_ok=True)
        with plan.independent_faults_file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(line) + "\n")

    return note
