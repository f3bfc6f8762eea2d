"""What the checks of cells say of an observation."""

from __future__ import annotations

from finetune_compat.checks import Deviation, Result, Verdict, judge
from finetune_compat.contract.catalog import flow_named
from finetune_compat.contract.records import Observation


def judged(seen: Observation, *listed: Deviation) -> Verdict:
    """Return the verdict; only the given deviations are listed."""
    return judge(seen, flow_named(seen.flow), listed)


def failures(seen: Observation) -> dict[str, str]:
    """Return failing codes and their messages if nothing is listed."""
    return {said.code: said.message for said in judged(seen).opinions if said.result is Result.FAIL}


def results(seen: Observation) -> dict[str, Result]:
    """Return the result of each check if nothing is listed."""
    return {said.code: said.result for said in judged(seen).opinions}


def why(seen: Observation, code: str) -> tuple[Result, str]:
    """Return the result and message of one check if nothing is listed."""
    [said] = [said for said in judged(seen).opinions if said.code == code]
    return said.result, said.message
