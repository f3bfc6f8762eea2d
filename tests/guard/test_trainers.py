"""Other trainers of TRL: their normal behaviour raises no alarm, and their faults do."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from typing import Any

import pytest
import torch
import transformers
import trl
from datasets import Dataset
from finetune_compat import TrainingGuard
from finetune_compat.cell import adapt, data
from finetune_compat.cell.setup import Setup
from guarded_runs import adapters, finishes, silence, stopped, warned
from peft import get_peft_model

# TRL before 0.12 has a get_batch_samples for DPO that Transformers 4.46 and later use as their own (trl#2275), and no
# GRPO: a trainer that does not run needs no guard.
VERSION = tuple(int(part) for part in trl.__version__.split(".")[:2])
needs_dpo = pytest.mark.skipif(VERSION < (0, 12), reason="DPOTrainer does not run on this Transformers (trl#2275)")
needs_grpo = pytest.mark.skipif(not hasattr(trl, "GRPOTrainer"), reason="TRL before 0.14 has no GRPOTrainer")


def _made(trainer: type[Any], config: type[Any], setup: Setup, options: dict[str, Any], **given: Any) -> Any:
    """Make a trainer with those common options that its class has."""
    common = {**adapt.training_options(setup), **options}
    names = {field.name for field in dataclasses.fields(config)}
    takes = inspect.signature(trainer.__init__).parameters
    tokenizer = "processing_class" if "processing_class" in takes else "tokenizer"
    args = config(**{name: value for name, value in common.items() if name in names})
    words = copy.deepcopy(data.tokenizer())
    words.model_input_names = ["input_ids", "attention_mask"]  # some releases pass all tokenizer outputs to generate
    return trainer(args=args, **{tokenizer: words}, **given)


def _words(*numbers: int) -> str:
    return " ".join(f"w{number % data.USED_WORDS}" for number in numbers)


def _dpo(setup: Setup, *callbacks: Any, **options: Any) -> Any:
    rows = Dataset.from_list(
        [
            {"prompt": _words(i, i + 1), "chosen": f" {_words(i + 2, i + 3)}", "rejected": f" {_words(i + 7, i + 5)}"}
            for i in range(32)
        ]
    )
    return _made(
        trl.DPOTrainer,
        trl.DPOConfig,
        setup,
        {"max_length": 16, "max_prompt_length": 8, "beta": 0.1, **options},
        model=get_peft_model(adapt.load_model(setup), adapt.lora_config(setup)),
        train_dataset=rows,
        eval_dataset=rows.select(range(8)),
        callbacks=list(callbacks),
    )


def _grpo(setup: Setup, reward: Any, *callbacks: Any, **options: Any) -> Any:
    return _made(
        trl.GRPOTrainer,
        trl.GRPOConfig,
        setup,
        {
            "num_generations": 4,
            "max_completion_length": 4,
            "max_prompt_length": 8,
            "beta": 0.0,
            "temperature": 1.0,
            "logging_steps": 1,
            "max_steps": 6,
            **options,
        },
        model=get_peft_model(adapt.load_model(setup), adapt.lora_config(setup)),
        reward_funcs=reward,
        train_dataset=Dataset.from_list([{"prompt": _words(i, i + 1)} for i in range(32)]),
        callbacks=list(callbacks),
    )


def _by_length_of_words(completions: Any, **_: Any) -> list[float]:
    """A reward that differs between almost any two completions."""
    return [float(sum(map(ord, str(completion)))) for completion in completions]


def _all_the_same(completions: Any, **_: Any) -> list[float]:
    return [1.0 for _ in completions]


# --------------------------------------------------------------------------------------------------------------- DPO


@needs_dpo
@pytest.mark.parametrize("rate", [1e-3, 1e-6])
def test_dpo_passes_in_silence(setup: Setup, rate: float) -> None:
    """Its model's forward gets no labels, and TRL's own learning rate is a millionth."""
    trainer = _dpo(setup, TrainingGuard(every=1), learning_rate=rate)
    with silence():
        trainer.evaluate()
    finishes(trainer)
    with silence():
        trainer.evaluate()


@needs_dpo
def test_dpo_over_a_frozen_adapter_stops(setup: Setup) -> None:
    """Its loss would stay at ln 2."""
    trainer = _dpo(setup, TrainingGuard())
    for parameter in adapters(trainer).values():
        parameter.requires_grad = False
    assert stopped(trainer)[::2] == ("C104", 0)


@needs_dpo
def test_dpo_whose_loss_is_independent_of_the_model_stops(setup: Setup) -> None:
    """The gradients are zero, as with an adapter that is its own reference."""
    trainer = _dpo(setup, TrainingGuard())
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:  # newer releases have the reference as a second, frozen adapter
            parameter.register_hook(torch.zeros_like)
    assert stopped(trainer)[::2] == ("G401", 3)


# -------------------------------------------------------------------------------------------------------------- GRPO


@needs_grpo
def test_grpo_passes_in_silence(setup: Setup) -> None:
    """Its loss is always 0.0, because beta is 0 and the policy is its own reference."""
    finishes(_grpo(setup, _by_length_of_words, TrainingGuard(every=1)))


@needs_grpo
def test_grpo_whose_completions_all_earn_the_same_passes_in_silence(setup: Setup) -> None:
    """The gradient is correctly zero at every step: a hard task begins so."""
    trainer = _grpo(setup, _all_the_same, TrainingGuard())
    largest: list[float] = []
    for parameter in adapters(trainer).values():
        parameter.register_hook(lambda gradient: largest.append(float(gradient.abs().max())))
    finishes(trainer)
    assert largest and not any(largest)


@needs_grpo
@pytest.mark.parametrize("logging_steps", [1, 2])
def test_grpo_whose_rewards_differ_and_whose_gradient_is_zero_stops(setup: Setup, logging_steps: int) -> None:
    """The spread of rewards is in the log after a step: it takes three such steps, or the second log of two steps."""
    trainer = _grpo(setup, _by_length_of_words, TrainingGuard(), logging_steps=logging_steps)
    for parameter in adapters(trainer).values():
        parameter.register_hook(torch.zeros_like)
    code, line, steps = stopped(trainer)
    last = 3 if logging_steps == 1 else 4
    assert (code, steps) == ("G401", last)
    assert line == (
        f"no gradient reaches the weights in steps 1 to {last} although the rewards differ: "
        "of 28 trainable tensors 0 received none and 28 only zeros"
    )


@needs_grpo
def test_grpo_over_a_frozen_adapter_stops_before_it_generates(setup: Setup) -> None:
    """If a later switch of adapters unfreezes it, the optimizer stays empty (trl#6700)."""
    trainer = _grpo(setup, _by_length_of_words, TrainingGuard())
    for parameter in adapters(trainer).values():
        parameter.requires_grad = False
    assert stopped(trainer)[::2] == ("C104", 0)


@needs_grpo
def test_a_gradient_that_is_nan_stops_grpo_at_once(setup: Setup) -> None:
    """The rewards do not matter."""
    trainer = _grpo(setup, _all_the_same, TrainingGuard())
    next(iter(adapters(trainer).values())).register_hook(lambda gradient: gradient * float("nan"))
    assert stopped(trainer)[::2] == ("G404", 1)


# --------------------------------------------------------------------------------------------------- one label a row


def test_a_classifier_passes_in_silence(setup: Setup) -> None:
    """Each row has one number as its label, and none is masked."""
    config = transformers.AutoConfig.from_pretrained(setup.model.place, num_labels=2)
    rows = [{"input_ids": [i % 20, (i * 7) % 20, 3], "labels": i % 2} for i in range(64)]
    args = transformers.TrainingArguments(
        output_dir=str(setup.scratch), max_steps=10, report_to="none", logging_steps=1, per_device_train_batch_size=8
    )
    trainer = transformers.Trainer(
        model=transformers.AutoModelForSequenceClassification.from_config(config),
        args=args,
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(rows[:8]),
        callbacks=[TrainingGuard(every=1)],
    )
    with silence():
        trainer.evaluate()
    assert warned(trainer) == []
    with silence():
        trainer.evaluate()
