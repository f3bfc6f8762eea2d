"""Advice names the classes and lines of the script."""

from __future__ import annotations

import dataclasses

import pytest
from finetune_compat.checks.codes import CODES
from finetune_compat.checks.script_advice import advice
from finetune_compat.contract.records import Frame, Freeze, Stage
from finetune_compat.contract.script import Run
from pipelines import run

SCRIPT = Frame("train.py", 20, "<module>", "f()")
PEFT = Frame("peft/tuners/tuners_utils.py", 1200, "set_requires_grad", "p.requires_grad = False")


def froze(stage: Stage, *frames: Frame) -> Run:
    """A DPO trainer with one freeze."""
    made = run(trainer="DPOTrainer")
    return dataclasses.replace(made, seen=dataclasses.replace(made.seen, freezes=(Freeze(stage, 16_384, 28, frames),)))


@pytest.mark.parametrize(
    ("made", "code", "words"),
    [
        (
            froze(Stage.TRAINING, SCRIPT, PEFT),
            "C105",
            "Set requires_grad of the adapter back to True after train.py:20",
        ),
        (froze(Stage.TRAINING, SCRIPT), "C105", "Leave out what train.py:20 does"),
        (froze(Stage.PEFT, SCRIPT, PEFT), "C104", "train.py:20 freezes the adapter"),
        (froze(Stage.PEFT, SCRIPT, PEFT), "C104", "use another release of peft"),
        (froze(Stage.TRAINER, SCRIPT, PEFT), "C104", "Pass the base model and peft_config to DPOTrainer"),
        (
            run(label_names=(), peft_config="LoraConfig", arguments="SFTConfig"),
            "E801",
            'Set task_type in LoraConfig, for example "CAUSAL_LM", or label_names=["labels"] in SFTConfig.',
        ),
        (run(label_names=(), arguments="DPOConfig"), "E801", 'Set label_names=["labels"] in DPOConfig.'),
    ],
)
def test_it_names_what_the_script_uses(made: Run, code: str, words: str) -> None:
    assert words in advice(made, code)


@pytest.mark.parametrize("code", ["C104", "C105", "E801", "W701"])
def test_without_a_cause_it_is_that_of_the_code(code: str) -> None:
    """A freeze before training does not explain one in training."""
    assert advice(run(), code) == CODES[code].advice
    if code == "C105":
        assert advice(froze(Stage.PEFT, SCRIPT, PEFT), code) == CODES[code].advice
