"""What the labels of a script's rows teach: ends, padding, shifted labels, prompts."""

from __future__ import annotations

import dataclasses

import pytest
from finetune_compat.checks.script_checks import judge_run
from finetune_compat.contract.script import Lesson, Run, Taught
from finetune_compat.contract.verdict import Outcome, Result
from pipelines import run

WELL = Lesson(
    rows=80,
    labels=640,
    unlabelled=0,
    on_padding=0,
    masked=400,
    foreign=0,
    ahead=0,
    ends=80,
    ends_learned=80,
    end_tokens=("<eos>", "<|im_end|>"),
    pad_is_end=False,
    lengths_differ=True,
    shifts=True,
    masked_by_data=60,
    shown="w1 w2 [w3 <eos>] (4 x padding)",
)
"""80 rows of which the answers and their ends are learned."""


def taught(**changes: object) -> Run:
    """A run of a trainer whose model receives no labels, as in DPO, with this lesson."""
    made = run()
    lesson = dataclasses.replace(WELL, **changes)  # type: ignore[arg-type]
    return dataclasses.replace(made, lesson=lesson, seen=dataclasses.replace(made.seen, labels=None))


def results(made: Run) -> dict[str, tuple[Result, str]]:
    """Result and message of each check of labels."""
    codes = ("L501", "L502", "L503", "L504", "L505")
    return {one.code: (one.result, one.message) for one in judge_run(made).opinions if one.code in codes}


def test_answers_that_are_learned_to_their_end_are_healthy() -> None:
    assert judge_run(taught()).outcome is Outcome.PASS
    assert {result for result, _ in results(taught()).values()} == {Result.PASS}


def test_without_a_lesson_nothing_is_judged() -> None:
    for made in (run(), run(rewarded=True)):
        found = results(dataclasses.replace(made, seen=dataclasses.replace(made.seen, labels=None)))
        assert {result for result, _ in found.values()} == {Result.NOT_APPLICABLE}
        assert ("sampled" in found["L502"][1]) == made.rewarded


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"padding_masked": 7}, "L505", "in 7 of 8 rows the prompt is learned, whole or in part"),
        ({"prompt_masked": (1, 9)}, "L505", "prompts alone, of up to 9 tokens, and the labels of each row mask 1"),
        ({"masked": 0, "marker_missing": "### Answer:"}, "L505", "up to the marker '### Answer:', and no row has"),
        ({"ends_learned": 0}, "L502", ("stands in 80 of 80 rows and is a label in none: the model",)),
        # The collator takes the end token for padding.
        ({"ends_learned": 0, "pad_is_end": True}, "L502", ("the pad token is the end token", "[w3 <eos>]")),
        # Attention leaves out the end token, because it is the pad token.
        ({"ends": 0, "ends_learned": 0, "pad_is_end": True}, "L502", ("no row of 80", "counts as padding")),
        ({"ends": 0, "ends_learned": 0}, "L502", ("no row of 80 has an end token (<eos> or <|im_end|>)",)),
        # Truncated rows have one length; their prompts are masked.
        ({"ends": 0, "ends_learned": 0, "lengths_differ": False}, "L502", ("no row of 80",)),
        ({"labels": 2560, "on_padding": 2410}, "L504", ("2410 of 2560 labels are padding",)),
        ({"foreign": 640, "ahead": 640}, "L503", ("640 of 640 labels are the next token",)),
        ({"masked": 0}, "L505", ("mask 60 tokens", "collator")),
        ({"unlabelled": 80}, "L501", ("80 of 80 rows have nothing to learn",)),
    ],
)
def test_each_fault_is_named_by_one_check(changes: dict[str, object], code: str, words: tuple[str, ...]) -> None:
    verdict = judge_run(taught(**changes))
    assert verdict.failing == (code,)
    assert all(word in verdict.reason for word in words)


@pytest.mark.parametrize(
    ("changes", "code", "expected"),
    [
        # Some rows are truncated.
        ({"ends": 40, "ends_learned": 1}, "L502", Result.PASS),
        # Blocks of a text corpus begin and end anywhere.
        (
            {"ends": 0, "ends_learned": 0, "lengths_differ": False, "masked": 0, "masked_by_data": None},
            "L502",
            Result.NOT_APPLICABLE,
        ),
        ({"rows": 3, "ends": 3, "ends_learned": 0}, "L502", Result.NOT_APPLICABLE),
        ({"end_tokens": (), "ends": 0, "ends_learned": 0}, "L502", Result.NOT_APPLICABLE),
        # A masked language model: labels are what the mask hides.
        ({"foreign": 500, "shifts": False, "ends_learned": 0}, "L502", Result.NOT_APPLICABLE),
        ({"foreign": 640, "ahead": 640, "shifts": False}, "L503", Result.NOT_APPLICABLE),
        # A few labels of padding do little harm.
        ({"on_padding": 64}, "L504", Result.PASS),
        ({"masked": 0, "masked_by_data": 0}, "L505", Result.PASS),
        ({"masked": 0, "masked_by_data": None}, "L505", Result.NOT_APPLICABLE),
    ],
)
def test_unusual_labels_are_no_fault(changes: dict[str, object], code: str, expected: Result) -> None:
    made = taught(**changes)
    assert results(made)[code][0] is expected
    assert judge_run(made).outcome is Outcome.PASS


def test_labels_of_other_rows_are_a_fault_of_a_causal_model() -> None:
    """They are neither the token nor the next one. Other models have other labels."""
    assert judge_run(taught(foreign=640, ahead=20)).failing == ("L507",)
    assert judge_run(taught(foreign=640, ahead=20, shifts=False, ends_learned=0)).outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("after_next", "itself", "words"),
    [(120, 0, "the token after the next: labels are shifted twice"), (0, 120, "the token that stands there")],
)
def test_the_gradient_of_the_logits_shows_a_wrong_shift_of_any_loss(after_next: int, itself: int, words: str) -> None:
    shown = Taught(positions=124, following=0, after_next=after_next, itself=itself)
    verdict = judge_run(dataclasses.replace(run(), taught=shown))
    assert verdict.failing == ("L503",)
    assert words in verdict.reason


@pytest.mark.parametrize(
    "shown",
    [
        Taught(positions=124, following=120, after_next=0, itself=0),
        # A loss of several parts teaches other tokens too, such as a distillation.
        Taught(positions=124, following=0, after_next=60, itself=0),
        Taught(positions=10, following=0, after_next=10, itself=0),
    ],
)
def test_what_positions_are_taught_may_be_mixed(shown: Taught) -> None:
    assert judge_run(dataclasses.replace(run(), taught=shown)).outcome is Outcome.PASS


def test_ends_of_completions_that_are_sampled_are_not_judged() -> None:
    """A limit of their length cuts off every end."""
    made = dataclasses.replace(taught(ends=0, ends_learned=0), rewarded=True)
    assert results(made)["L502"][0] is Result.NOT_APPLICABLE
