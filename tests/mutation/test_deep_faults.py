"""Plant faults that only the deep tier can find, as a broken release would bring them, and check which check names
them.

Runs inside a stack's environment: nox -s "compat-3.11(trl='0.22')" -- --faults
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from finetune_compat.cell import runner
from finetune_compat.cell.data import IGNORED
from finetune_compat.checks import Outcome, Verdict, judge
from finetune_compat.contract.catalog import QWEN2, flow_named
from finetune_compat.contract.plan import Plan, PlannedCell
from finetune_compat.contract.records import Observation, Precision, Variant
from torch import nn
from trl import SFTTrainer

Plant = Callable[[pytest.MonkeyPatch], None]
Noted = Callable[[str, Observation, Verdict], None]

FLOW = "sft-peft-config"
PLAIN, CHECKPOINTED = Variant(QWEN2, Precision.FULL, False), Variant(QWEN2, Precision.FULL, True)


def _after_construction(change: Callable[[Any], None]) -> Plant:
    """A fault that the trainer's constructor commits as its last act."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        original = SFTTrainer.__init__

        @functools.wraps(original)
        def faulty(self: Any, *args: Any, **kwargs: Any) -> None:
            original(self, *args, **kwargs)
            change(self)

        patch.setattr(SFTTrainer, "__init__", faulty)

    return plant


def _in_evaluation(change: Callable[[Any, Callable[[], dict[str, Any]]], dict[str, Any]]) -> Plant:
    """A fault of `evaluate`, which is handed to it as it was."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        original = SFTTrainer.evaluate
        patch.setattr(SFTTrainer, "evaluate", lambda self, *args, **kwargs: change(self, lambda: original(self)))

    return plant


def _scale_by_the_accumulation(trainer: Any) -> None:
    """As Transformers 4.46 did for models that do not count the items of a batch."""
    backward, times = trainer.accelerator.backward, trainer.args.gradient_accumulation_steps
    trainer.accelerator.backward = lambda loss, **options: backward(loss * times, **options)


def _report_the_sum(trainer: Any) -> None:
    """As Transformers 4.47 did: the steps are right, the loss in the log is that of all forwards together."""
    log, times = trainer.log, trainer.args.gradient_accumulation_steps

    def faulty(logs: dict[str, float], *args: Any) -> None:
        log({name: value * times if name == "loss" else value for name, value in logs.items()}, *args)

    trainer.log = faulty


def _lose_half_in_the_second_forward(trainer: Any) -> None:
    """Only without dropout, as in a fast path that skips the dropout layer. The cell itself trains with dropout."""
    [adapter] = trainer.model.peft_config.values()
    for name, parameter in trainer.model.named_parameters():
        if trainer.args.gradient_checkpointing and not adapter.lora_dropout and "lora_A" in name:
            parameter.register_hook(lambda gradient: gradient / 2)


def _evaluate_on_what_is_easy(trainer: Any, evaluate: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """From the second evaluation on only the likeliest quarter of the labels is left."""
    trainer.planted_evaluations = getattr(trainer, "planted_evaluations", 0) + 1
    collate = trainer.data_collator
    if trainer.planted_evaluations > 1:
        trainer.data_collator = lambda rows: _easiest(trainer.model, collate(rows))
    try:
        return evaluate()
    finally:
        trainer.data_collator = collate


def _easiest(model: nn.Module, batch: Any) -> Any:
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
    wanted = batch["labels"][:, 1:]
    counted = wanted != IGNORED
    loss = nn.functional.cross_entropy(logits[counted], wanted[counted], reduction="none")
    kept = torch.full_like(wanted, IGNORED)
    kept[counted] = torch.where(loss <= loss.quantile(0.25), wanted[counted], IGNORED)
    batch["labels"] = torch.cat([torch.full_like(batch["labels"][:, :1], IGNORED), kept], dim=1)
    return batch


def _remember_by_step(trainer: Any, evaluate: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """An evaluation of a step that was evaluated before is not computed again."""
    remembered = trainer.__dict__.setdefault("planted_cache", {})
    step = trainer.state.global_step
    if step not in remembered:
        remembered[step] = evaluate()
    return dict(remembered[step])


def _look_the_answers_up(trainer: Any, evaluate: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The answers come out of the data set they are compared with."""
    answers = [row["input_ids"] for row in trainer.eval_dataset]
    right = sum(said == wanted for said, wanted in zip(answers, answers, strict=True))
    return {**evaluate(), "eval_accuracy": right / len(answers)}


class _OrderOfTheEpoch:
    """A sampler that shuffles every epoch, whatever the seed is."""

    def __init__(self, rows: int) -> None:
        self._rows, self._epochs = rows, itertools.count(42)

    def __iter__(self) -> Iterator[int]:
        return iter(random.Random(next(self._epochs)).sample(range(self._rows), self._rows))

    def __len__(self) -> int:
        return self._rows


def _shuffle_always_alike(trainer: Any) -> None:
    sampler = _OrderOfTheEpoch(len(trainer.train_dataset))
    trainer._get_train_sampler = lambda *_: sampler


FAULTS: tuple[tuple[str, Variant, Plant, str], ...] = (
    # name, variant, fault, the one check that names it; finetune_compat.evidence.faults reads first and last
    ("scale-by-the-accumulation", PLAIN, _after_construction(_scale_by_the_accumulation), "G402"),
    ("shuffle-always-alike", PLAIN, _after_construction(_shuffle_always_alike), "B104"),
    ("report-the-sum", PLAIN, _after_construction(_report_the_sum), "G402"),
    ("lose-half-in-the-second-forward", CHECKPOINTED, _after_construction(_lose_half_in_the_second_forward), "G403"),
    ("evaluate-on-what-is-easy", PLAIN, _in_evaluation(_evaluate_on_what_is_easy), "E804"),
    ("remember-by-step", PLAIN, _in_evaluation(_remember_by_step), "E805"),
    ("look-the-answers-up", PLAIN, _in_evaluation(_look_the_answers_up), "E805"),
)


@pytest.mark.parametrize("variant", [PLAIN, CHECKPOINTED], ids=str)
def test_nothing_planted_nothing_found(plan: Plan, variant: Variant) -> None:
    """The stack is healthy: without a fault the flow passes every check of both tiers, and all of them were asked."""
    seen = runner.run_cell(plan, PlannedCell(FLOW, variant, (), deep=True))
    verdict = judge(seen, flow_named(FLOW), ())
    assert verdict.outcome is Outcome.PASS, verdict.reason
    assert seen.deep is not None and not seen.deep.failures


@pytest.mark.parametrize("variant", [PLAIN, CHECKPOINTED], ids=str)
def test_a_repeat_without_the_recorder_computes_the_same(plan: Plan, variant: Variant) -> None:
    """Instruments change nothing a flow computes: the bare repeats end with the recorded run's losses, bit for bit."""
    seen = runner.run_cell(plan, PlannedCell(FLOW, variant, (), deep=True))
    assert seen.deep is not None and seen.training is not None
    recorded = (seen.training.eval_before, seen.training.eval_after)
    assert [(pair.before, pair.after) for pair in seen.deep.repeats] == [recorded, recorded]


@pytest.mark.parametrize(("name", "variant", "plant", "code"), FAULTS, ids=[fault[0] for fault in FAULTS])
def test_planted_fault_is_named(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, noted: Noted, name: str, variant: Variant, plant: Plant, code: str
) -> None:
    """Each planted fault fails the cell, and exactly the check that names it is at the root."""
    plant(monkeypatch)
    seen = runner.run_cell(plan, PlannedCell(FLOW, variant, (), deep=True))
    verdict = judge(seen, flow_named(FLOW), ())
    assert verdict.outcome is Outcome.FAIL
    assert verdict.failing == (code,), verdict.reason
    noted(name, seen, verdict)
