"""The fixtures for a user's own tests: what they measure in a stack, what they accept and what they refuse."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from conftest import Make
from finetune_compat.cell import adapt
from finetune_compat.cell.setup import Setup
from finetune_compat.cell.stages import StageRecorder
from finetune_compat.contract.records import Area
from guarded_runs import ADAPTER, EVERYTHING, TENSORS, adapters
from peft import get_peft_model, prepare_model_for_kbit_training
from torch import nn
from transformers import TrainerCallback

AssertTrains = Callable[..., None]


def refused(assert_trains: AssertTrains, trainer: Any, **options: int) -> list[str]:
    """Return the lines of the message."""
    with pytest.raises(AssertionError) as caught:
        assert_trains(trainer, **options)
    head, *lines = str(caught.value).split("\n")
    assert head == "it does not train:"
    return lines


# ------------------------------------------------------------------------------------------------------------ stages


def test_stages_are_counted_by_area(stage_recorder: StageRecorder, setup: Setup) -> None:
    """Calculated by hand: 2 layers of 36,864 weights and 128 biases, embedding and head of 128 x 64, 5 norms of 64; r 8
    over 1,024 rows and columns per layer.
    """
    model = adapt.load_model(setup)
    stage_recorder("load", model)
    stage_recorder("prepare", prepare_model_for_kbit_training(model))
    stage_recorder("peft", get_peft_model(model, adapt.lora_config(setup)))
    assert stage_recorder.table() == (
        "stage    trainable    total   percent  language  embedding  norm   head  adapter\n"
        "load        90,688   90,688  100.0000    73,984      8,192   320  8,192        -\n"
        "prepare          0   90,688    0.0000         -          -     -      -        -\n"
        "peft        16,384  107,072   15.3019         -          -     -      -   16,384"
    )
    stage_recorder.assert_trainable("load", EVERYTHING - ADAPTER)
    stage_recorder.assert_trainable("prepare", 0)
    stage_recorder.assert_trainable("peft", ADAPTER)
    stage_recorder.assert_only("peft", "adapter")
    stage_recorder.assert_only("prepare")
    assert stage_recorder["peft"].by_area[Area.ADAPTER].total == ADAPTER


def test_a_frozen_stage_fails_with_its_count_and_the_table(stage_recorder: StageRecorder, sft: Make) -> None:
    """This is trl#3926 in a user's test."""
    trainer = sft()
    stage_recorder("peft", trainer.model)
    for parameter in adapters(trainer).values():
        parameter.requires_grad = False
    stage_recorder("trainer", trainer.model)
    with pytest.raises(AssertionError) as caught:
        stage_recorder.assert_trainable("trainer", ADAPTER)
    assert str(caught.value) == f"0 trainable at 'trainer', expected 16,384\n{stage_recorder.table()}"
    with pytest.raises(AssertionError, match="trainable at 'trainer': nothing; expected: adapter"):
        stage_recorder.assert_only("trainer", "adapter")
    said = "other parameters are trainable at 'trainer' than at 'peft': 16,384 there, 0 here"
    with pytest.raises(AssertionError, match=said):
        stage_recorder.assert_same("peft", "trainer")


def test_stages_with_the_same_parameters_trainable_are_the_same(stage_recorder: StageRecorder, sft: Make) -> None:
    """Parameters are compared by name: an equal number of others is different."""
    trainer = sft()
    first, second = (p for name, p in adapters(trainer).items() if "q_proj.lora_A" in name)
    first.requires_grad = False
    stage_recorder("one", trainer.model)
    stage_recorder("same", trainer.model)
    first.requires_grad, second.requires_grad = True, False
    stage_recorder("other", trainer.model)
    stage_recorder.assert_same("one", "same")
    with pytest.raises(AssertionError, match="15,872 there, 15,872 here"):
        stage_recorder.assert_same("same", "other")


def test_a_stage_is_counted_once_and_found_by_its_name(stage_recorder: StageRecorder) -> None:
    """A second count under the same name would hide the first."""
    stage_recorder("load", nn.Linear(2, 2))
    with pytest.raises(ValueError, match=re.escape("stage 'load' has been counted already; stages are 'load'")):
        stage_recorder("load", nn.Linear(2, 2))
    with pytest.raises(KeyError, match="nothing was counted at 'peft'; stages are 'load'"):
        stage_recorder.assert_trainable("peft", 0)


# ------------------------------------------------------------------------------------------------------ assert_trains


def test_a_healthy_trainer_trains(assert_trains: AssertTrains, sft: Make, full: Make) -> None:
    """This holds with and without adapters, for the requested steps; the trainer's settings are restored."""
    for make in (sft, full):
        trainer = make(max_steps=50)
        callbacks = list(trainer.callback_handler.callbacks)
        assert_trains(trainer, steps=6)
        assert trainer.state.global_step == 6
        assert trainer.args.max_steps == 50
        assert trainer.callback_handler.callbacks == callbacks
        assert not trainer.model._forward_pre_hooks


def test_the_error_of_a_trainer_propagates(assert_trains: AssertTrains, sft: Make) -> None:
    """The error comes in the middle of a step and propagates."""
    trainer = sft(max_steps=50)

    def crash(*_: Any, **__: Any) -> Any:
        raise RuntimeError("out of paper")

    trainer.compute_loss = crash
    trainer.eval_dataset = None
    with pytest.raises(RuntimeError, match="out of paper"):
        assert_trains(trainer)
    assert trainer.args.max_steps == 50
    assert not trainer.model._forward_pre_hooks


def test_without_an_eval_set_eval_loss_is_not_checked(assert_trains: AssertTrains, sft: Make) -> None:
    """Training is checked nevertheless."""
    trainer = sft()
    trainer.eval_dataset = None
    assert_trains(trainer)
    assert not any("eval_loss" in entry for entry in trainer.state.log_history)


def test_frozen_adapters_are_refused_before_a_step(assert_trains: AssertTrains, sft: Make) -> None:
    """The message is the guard's."""
    trainer = sft()
    for parameter in adapters(trainer).values():
        parameter.requires_grad = False
    with pytest.raises(AssertionError, match=f"nothing is trainable: 0 of {EVERYTHING:,} parameters") as caught:
        assert_trains(trainer)
    assert "peft_config" in str(caught.value)
    assert trainer.state.global_step == 0


def test_an_optimizer_of_half_the_parameters_is_refused(assert_trains: AssertTrains, sft: Make) -> None:
    """Its parameters train, and gradients arrive."""
    trainer = sft()
    half = [p for name, p in adapters(trainer).items() if "lora_B" in name]
    trainer.optimizer = torch.optim.AdamW(half, lr=0.01)
    held = sum(parameter.numel() for parameter in half)
    [line] = refused(assert_trains, trainer)
    assert line == (
        f"- the optimizer holds {held:,} parameters; "
        f"{ADAPTER - held:,} trainable ones are missing from it and 0 in it are not trainable"
    )


def test_one_tensor_without_a_gradient_is_refused(assert_trains: AssertTrains, sft: Make) -> None:
    """A guard accepts it, because an expert may be idle; a test of a small model requires every gradient."""
    trainer = sft()
    next(p for name, p in adapters(trainer).items() if "lora_B" in name).register_hook(torch.zeros_like)
    # lora_A of the same module has no gradient, because lora_B stays zero.
    assert refused(assert_trains, trainer) == [
        f"- of {TENSORS} trainable tensors 0 never received a gradient, 2 only zeros, 0 a non-finite one"
    ]


def test_a_step_without_effect_is_refused(
    assert_trains: AssertTrains, sft: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eval loss, which cannot have changed, is refused too."""
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self, closure=None: None)
    first, second = refused(assert_trains, sft(), steps=4)
    assert first == "- no trained weight changed at all"
    assert re.fullmatch(r"- eval loss is flat to 6 decimals: (\d\.\d{6}) -> \1", second)


def test_an_evaluation_that_ignores_the_model_is_refused(assert_trains: AssertTrains, sft: Make) -> None:
    """Everything changes except the loss."""
    trainer = sft()
    trainer.prediction_step = lambda *_, **__: (torch.tensor(3.289622), None, None)
    assert refused(assert_trains, trainer) == ["- eval loss is flat to 6 decimals: 3.289622 -> 3.289622"]


def test_each_of_several_eval_sets_is_checked(assert_trains: AssertTrains, sft: Make) -> None:
    """Trainer reports a loss for each set, and none under the plain name."""
    trainer = sft()
    trainer.eval_dataset = {"easy": trainer.eval_dataset, "hard": trainer.eval_dataset}
    assert_trains(trainer, steps=4)
    trainer.prediction_step = lambda *_, **__: (torch.tensor(3.289622), None, None)
    flat = "- eval loss is flat to 6 decimals: 3.289622 -> 3.289622"
    assert refused(assert_trains, trainer, steps=4) == [f"{flat} (eval_easy_loss)", f"{flat} (eval_hard_loss)"]


@pytest.mark.parametrize("steps", [0, 1])
def test_a_single_step_is_refused(assert_trains: AssertTrains, sft: Make, steps: int) -> None:
    """A healthy lora_A has no gradient in the first step, so a single step would fail."""
    with pytest.raises(ValueError, match="lora_A has its first gradient in step 2"):
        assert_trains(sft(), steps=steps)


def test_an_evaluation_without_a_loss_is_refused(assert_trains: AssertTrains, sft: Make) -> None:
    """There is an eval set and no eval_loss (label_names, as with a PeftModel in a plain Trainer)."""
    trainer = sft()
    trainer.evaluate = lambda *_, **__: {}
    assert refused(assert_trains, trainer) == ["- eval_loss was None before and None after training"]


def test_rows_without_labels_are_refused(assert_trains: AssertTrains, sft: Make) -> None:
    """One such row is enough."""
    trainer = sft()
    collate = trainer.data_collator

    def masked(rows: Any) -> Any:
        batch = collate(rows)
        batch["labels"][0] = -100
        return batch

    trainer.data_collator = masked
    [line] = refused(assert_trains, trainer, steps=5)
    assert line == "- 5 of 40 rows have nothing to learn (every label is -100)"


def test_a_set_that_changes_while_training_is_refused(assert_trains: AssertTrains, sft: Make) -> None:
    """A callback froze it in the last step."""

    class Freeze(TrainerCallback):
        def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            given["model"].requires_grad_(False)

    assert refused(assert_trains, sft(Freeze())) == [
        f"- other parameters are trainable than before training: {ADAPTER:,} then, 0 now"
    ]


def test_training_that_ends_early_is_refused(assert_trains: AssertTrains, sft: Make) -> None:
    """The user's callback stops it."""

    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            control.should_training_stop = state.global_step == 4

    assert refused(assert_trains, sft(Stop())) == ["- training ended after 4 of 10 steps"]
