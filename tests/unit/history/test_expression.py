"""Expressions over observations: a small language, and nothing of Python beyond it."""

from __future__ import annotations

import builders
import pytest
from finetune_compat.contract.errors import CompatError
from finetune_compat.contract.records import Stage
from finetune_compat.history.expression import LONGEST, Missing, parse

SEEN = builders.healthy("sft-peft-model")


def value(text: str, seen: object = SEEN) -> object:
    return parse(text, "--condition").value(seen)  # type: ignore[arg-type]


class TestValues:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("stages.trainer.trainable", builders.ADAPTER),
            ("stages.trainer.trainable == 0", False),
            ("0 < stages.peft.trainable <= stages.peft.total", True),
            ("stages.after_training.trainable == stages.trainer.trainable", True),
            ("training.eval_after < 0.9 * training.eval_before and not error", True),
            ("variant.precision == 'nf4' or device.kind == 'cuda'", True),
            ("stack.resolved['trl'] != '0'", True),
            ("len(training.loss) - 1", 9),
            ("abs(-2.5)", 2.5),
            ("'trl' in stack.resolved", True),
            ("training.loss[0] == training.loss[-10]", True),
            ("error is None", True),
        ],
    )
    def test_fields_stages_and_arithmetic(self, text: str, expected: object) -> None:
        assert value(text) == expected

    def test_a_frozen_adapter(self) -> None:
        assert value("stages.trainer.trainable == 0", builders.frozen(SEEN)) is True

    def test_what_was_not_reached_is_missing_and_not_zero(self) -> None:
        seen = builders.failed(SEEN, "ValueError", "no", Stage.LOAD)
        with pytest.raises(Missing, match=r"stages\.trainer was not measured"):
            value("stages.trainer.trainable == 0", seen)
        with pytest.raises(Missing):
            value("training.eval_before * 2 > 1", seen)

    @pytest.mark.parametrize("text", ["training.loss[99] > 0", "1 / (training.steps - training.steps) > 0"])
    def test_arithmetic_that_fails_is_missing(self, text: str) -> None:
        with pytest.raises(Missing):
            value(text)

    def test_it_shows_the_parts_it_names(self) -> None:
        shown = parse("stages.trainer.trainable == 0 and flow == 'x'", "here").shown(SEEN)
        assert shown == f"stages.trainer.trainable = {builders.ADAPTER}, flow = sft-peft-model"


class TestRefusals:
    @pytest.mark.parametrize(
        "text",
        [
            "__import__('os').system('true')",
            "().__class__",
            "flow.__class__",
            "open('/etc/passwd')",
            "[x for x in flow]",
            "lambda: 0",
            "2 ** 10000",
            "flow if error else seed",
            "len(flow, flow)",
            "f'{flow}'",
            "stages[flow].total",
            "(flow := 1)",
            "seed\nseed",
            "",
            "1" + "+1" * LONGEST,
        ],
    )
    def test_anything_else_is_refused_before_it_runs(self, text: str) -> None:
        with pytest.raises(CompatError):
            parse(text, "--condition")

    @pytest.mark.parametrize(
        ("text", "near"),
        [
            ("stages.trainr.trainable == 0", "trainer"),
            ("stages.trainer.trainabel == 0", "trainable"),
            ("trainin.eval_before", "training"),
            ("training.evalbefore > 1", "eval_before"),
        ],
    )
    def test_a_misspelt_name_is_refused_with_the_closest_one(self, text: str, near: str) -> None:
        with pytest.raises(CompatError) as caught:
            parse(text, "--condition")
        assert f"closest name is {near}" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("training.eval_before", True),
        ("training.grad_norm[0]", True),
        ("-training.eval_before", True),
        ("len(freezes)", True),
        ("training.eval_after < 1", False),
        ("not freezes", False),
        ("training.subject_finite", False),
        ("training.subject_finite and freezes", False),
        ("error", None),
    ],
)
def test_whether_it_is_a_number_follows_from_its_form_and_the_declared_types(text: str, number: bool | None) -> None:
    assert parse(text, "--condition").is_number is number
