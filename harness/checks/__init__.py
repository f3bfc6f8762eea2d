"""Observation -> Verdict. Pure, no torch, standard library only: the same judge runs inside a cell and on the host."""

from harness.checks.judge import judge
from harness.checks.registry import CHECKS, Check
from harness.checks.verdict import Deviation, Opinion, Outcome, Result, Sign, Symptom, Verdict

__all__ = ["CHECKS", "Check", "Deviation", "Opinion", "Outcome", "Result", "Sign", "Symptom", "Verdict", "judge"]
