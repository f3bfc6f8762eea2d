"""Known issues in scripts are recognised by the line that froze, in the listed releases, and by nothing less."""

from __future__ import annotations

import dataclasses

import builders as b
import pipelines as p
import pytest
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.checks.recognition import CONDITIONS, applying, named, with_applying
from finetune_compat.checks.script_checks import judge_run
from finetune_compat.contract.records import Frame, Precision, Stage
from finetune_compat.contract.script import Run
from finetune_compat.contract.verdict import Outcome, Verdict

LEDGER = load_ledger()


def on(made: Run, trl: str) -> Run:
    """Return the same script on another TRL."""
    stack = made.seen.stack
    there = dataclasses.replace(stack, resolved={**stack.resolved, "trl": trl})
    return dataclasses.replace(made, seen=dataclasses.replace(made.seen, stack=there))


def verdict(made: Run) -> Verdict:
    """Return the verdict."""
    return named(made.seen, judge_run(made), LEDGER)


def test_the_flagship() -> None:
    """The link is there; nothing else is wrong, so the script deviates as listed."""
    found = verdict(on(p.frozen(), "0.22.2"))
    assert (found.outcome, found.issues) == (Outcome.XFAIL, ("trl#3926",))
    assert found.links == ("https://github.com/huggingface/trl/issues/3926",)
    assert found.reason.startswith("trl#3926: C104 0 of 16,384 adapter parameters are trainable at trainer; frozen by")


@pytest.mark.parametrize("trl", ["0.19.1", "0.23.1", "1.16.0"])
def test_outside_its_window_the_same_is_another_bug(trl: str) -> None:
    """It needs investigation."""
    found = verdict(on(p.frozen(), trl))
    assert (found.outcome, found.issues) == (Outcome.FAIL, ())


def test_frozen_by_the_script_itself_is_none() -> None:
    """The same check fails in the same release, but the line is the user's."""
    chain = (Frame("train.py", 30, "<module>", "p.requires_grad = False"),)
    made = on(p.run(b.frozen(b.healthy("sft-peft-model", p.NF4), chain=chain)), "0.22.2")
    assert (verdict(made).outcome, verdict(made).issues) == (Outcome.FAIL, ())


def test_only_where_it_is_listed() -> None:
    """Full precision is not prepared a second time."""
    made = on(p.frozen(), "0.22.2")
    variant = dataclasses.replace(made.seen.variant, precision=Precision.FULL)
    assert verdict(dataclasses.replace(made, seen=dataclasses.replace(made.seen, variant=variant))).issues == ()


def test_other_failures_are_not_excused_by_it() -> None:
    """The issue is named, and the verdict is unchanged."""
    made = on(p.run(b.frozen_weights_changed(b.adapter_replaced(p.frozen().seen))), "0.22.2")
    found = verdict(made)
    assert found.issues == ("trl#3926",)
    assert "A201" in found.failing and found.outcome is Outcome.FAIL


def test_healthy_is_healthy() -> None:
    """This holds whatever is listed for these versions."""
    made = on(p.run(), "0.22.2")
    assert verdict(made) == judge_run(made)


def accumulating(transformers: str, accumulation: int | None) -> Run:
    """A DPO script on a release of Transformers."""
    made = p.run(trainer="DPOTrainer", accumulation=accumulation)
    stack = made.seen.stack
    there = dataclasses.replace(stack, resolved={**stack.resolved, "transformers": transformers})
    return dataclasses.replace(made, seen=dataclasses.replace(made.seen, stack=there))


DIVIDED = "accumulation-divided-twice"


def test_an_issue_that_a_script_cannot_show_applies_by_window_and_condition() -> None:
    """The window is Transformers 5.2.0 to 5.5.3, the condition more than one batch; the objective does not matter."""
    made = accumulating("5.4.0", 4)
    found = with_applying(made, judge_run(made), LEDGER)
    assert (found.outcome, found.issues) == (Outcome.FAIL, (DIVIDED,))
    assert found.reason.startswith(f"listed for these versions and settings, not measured here: {DIVIDED}: Trainer ")
    assert "(4 accumulated batches, transformers 5.4.0)" in found.reason


@pytest.mark.parametrize(("transformers", "accumulation"), [("5.1.0", 4), ("5.5.4", 4), ("5.4.0", 1), ("5.4.0", None)])
def test_outside_its_window_or_condition_it_does_not(transformers: str, accumulation: int | None) -> None:
    made = accumulating(transformers, accumulation)
    assert with_applying(made, judge_run(made), LEDGER) == judge_run(made)


def test_it_applies_to_what_has_trained() -> None:
    """An error before training is its own finding."""
    made = p.without_training(accumulating("5.4.0", 4))
    assert applying(made, LEDGER) == ()


def test_a_script_that_fails_has_both() -> None:
    made = accumulating("5.4.0", 4)
    broken = p.training(made, eval_before=None, eval_after=None)
    found = with_applying(broken, judge_run(broken), LEDGER)
    assert found.failing == ("E801",)
    assert found.reason.startswith("E801 ") and DIVIDED in found.reason


def test_checkpointing_is_a_condition_too() -> None:
    """It is that of issues about G403."""
    made = p.run()
    plain = dataclasses.replace(made.seen.variant, gradient_checkpointing=False)
    without = dataclasses.replace(made, seen=dataclasses.replace(made.seen, variant=plain))
    assert (CONDITIONS["G403"](made), CONDITIONS["G403"](without)) == ("gradient checkpointing", "")


def test_the_freeze_beside_a_listed_error_names_no_issue() -> None:
    """trl#3980 lists an error after the freeze of trl#3926: another error after it is not that one."""
    made = on(p.run(b.failed(b.frozen(b.healthy("sft-peft-model", p.NF4)), "KeyError", "x", Stage.TRAINER)), "0.22.2")
    assert "F001" in judge_run(made).failing
    assert "trl#3980" not in verdict(made).issues
