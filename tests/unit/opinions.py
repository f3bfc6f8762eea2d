"""What the checks of cells say of an observation if nothing is listed."""

from __future__ import annotations

from builders import UNLISTED
from finetune_compat.checks import Result
from finetune_compat.contract.records import Observation
from finetune_compat.results.run_files import judge_one


def failures(seen: Observation) -> dict[str, str]:
    """Return failing codes and their messages under an empty ledger."""
    return {said.code: said.message for said in judge_one(seen, UNLISTED).opinions if said.result is Result.FAIL}


def results(seen: Observation) -> dict[str, Result]:
    """Return the result of each check."""
    return {said.code: said.result for said in judge_one(seen, UNLISTED).opinions}


def why(seen: Observation, code: str) -> tuple[Result, str]:
    """Return the result and message of one check."""
    [said] = [said for said in judge_one(seen, UNLISTED).opinions if said.code == code]
    return said.result, said.message
