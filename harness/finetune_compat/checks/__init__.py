"""Observation -> Verdict. Pure, standard library only, no torch: the same judge runs inside a cell and on the host."""

from finetune_compat.checks.cell_checks import CHECKS
from finetune_compat.checks.judge import judge
from finetune_compat.contract.verdict import Deviation, Opinion, Outcome, Result, Sign, Symptom, Verdict

__all__ = ["CHECKS", "Deviation", "Opinion", "Outcome", "Result", "Sign", "Symptom", "Verdict", "judge"]
