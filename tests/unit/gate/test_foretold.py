"""The answer of the committed baselines, before anything runs."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from finetune_compat.gate.command import GateRequest, gate_command, run
from finetune_compat.gate.decision import Decision, GateExit
from finetune_compat.gate.foretold import NOTHING_RUN, word
from finetune_compat.stacks.matrix import read_matrix
from gate_builders import AFTER, BEFORE, cell, gate

MATRIX = read_matrix()


def cached(before: str, after: str) -> GateRequest:
    """A call of `compat gate --cached`."""
    return GateRequest((before,), (after,), cached=True)


class TestCached:
    @pytest.fixture(autouse=True)
    def _elsewhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COMPAT_RUN_ID", "gate")
        monkeypatch.setattr("finetune_compat.run.stack_run.chosen_gpus", lambda *_: ())

    def test_the_flagship_blocks_with_its_line_and_a_measured_release(self) -> None:
        """trl#3926 came with 0.20.0 and left with 0.23.1 (huggingface/trl#3926)."""
        gate = run(cached("trl==0.19.1", "trl==0.22.2"))
        assert (gate.decision, gate.causes[0].group and gate.causes[0].group.issues) == (Decision.BLOCK, ("trl#3926",))
        target = gate.causes[0].target
        assert target is not None and (target.version, target.foretold) == ("0.23.1", True)
        assert gate.causes[0].group is not None
        assert gate.causes[0].group.freezes[0].what[-1].file == "peft/utils/other.py"
        assert gate.foretold_by.startswith("the baseline of 20")

    @pytest.mark.parametrize(
        ("before", "after"), [*itertools.pairwise(stack.name for stack in MATRIX.stacks if stack.package)]
    )
    def test_no_step_of_the_matrix_is_allowed(self, before: str, after: str) -> None:
        """A measurement on another machine is no evidence for this one."""
        assert run(cached(before, after)).decision is not Decision.ALLOW

    def test_a_step_without_a_regression_is_no_evidence_for_this_machine(self) -> None:
        """A baseline was measured elsewhere: ALLOW becomes could not tell."""
        found = run(cached("trl0.27", "trl0.28"))
        assert found.decision is Decision.COULD_NOT_TELL
        assert found.reason == (
            f"None of its {len(found.cells)} cells regresses, which is no evidence for this machine."
        )
        assert found.defaults_unknown == NOTHING_RUN

    def test_versions_that_no_baseline_holds(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Could not tell, and what to do."""
        assert gate_command(cached("trl==0.19.1", "trl==0.22.1")) is GateExit.COULD_NOT_TELL
        assert capsys.readouterr().err == (
            "trl==0.19.1 or trl==0.22.1: no committed baseline holds these versions\n"
            "--cached answers from measurements that were made before, and starts nothing.\n"
            "Leave --cached out, or name two stacks with the Python of the baselines: `compat stacks` lists them.\n"
        )

    def test_scripts_are_not_held(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A baseline holds cells of the catalog."""
        (tmp_path / "train.py").write_text("")
        request = GateRequest(("trl0.19",), ("trl0.22",), cached=True, flow=str(tmp_path / "train.py"))
        assert gate_command(request) is GateExit.COULD_NOT_TELL
        assert capsys.readouterr().err.startswith("--cached: the committed baselines hold only cells on a CPU\n")


@pytest.mark.parametrize(
    ("decision", "confirming"),
    [(Decision.BLOCK, "; confirming"), (Decision.HOLD, "; confirming"), (Decision.COULD_NOT_TELL, "")],
)
def test_the_word_of_the_baselines(decision: Decision, confirming: str) -> None:
    """A gate that runs goes on to confirm what they say."""
    answer = gate([cell(BEFORE)], [cell(AFTER)])
    answer = replace(answer, decision=decision, reason="Why.", foretold_by="the baseline of 2026-11-24, a CPU")
    assert word(answer) == f"{decision} by the baseline of 2026-11-24, a CPU{confirming}. Why."
