"""Plant one fault of each kind into a healthy stack, as a broken release would bring it, and check which check names
it.

Runs inside a stack's environment: nox -s "compat-3.11(trl='0.22')" -- --faults
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import test_deep_faults
import torch
from accelerate import Accelerator
from finetune_compat.cell import adapt, runner
from finetune_compat.cell.data import EOS
from finetune_compat.cell.flows import sft_peft_model, trainer_peft_model
from finetune_compat.cell.instruments.census import is_adapter
from finetune_compat.checks import CHECKS, Outcome, Verdict, judge
from finetune_compat.contract.catalog import QWEN2, flow_named
from finetune_compat.contract.plan import Plan, PlannedCell
from finetune_compat.contract.records import Observation, Precision, Variant
from peft import PeftModel, get_peft_model, prepare_model_for_kbit_training
from torch import nn
from trl import SFTTrainer

Plant = Callable[[pytest.MonkeyPatch], None]
Noted = Callable[[str, Observation, Verdict], None]

AFTER_TRAINING = 2
"""Number of the evaluation that follows training."""

VARIANT = Variant(QWEN2, Precision.FULL, False)

ATTACHED_BY_TRAINER = PlannedCell("sft-peft-config", VARIANT, ())
ATTACHED_BY_USER = PlannedCell("sft-peft-model", VARIANT, ())
PREPARED_BY_USER = PlannedCell("trainer-peft-model", Variant(QWEN2, Precision.INT8, False), ())
"""Quantized, or it would not be prepared; and trained without TRL: no release has a bug here."""


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


def _adapters(trainer: Any) -> list[nn.Parameter]:
    return [parameter for name, parameter in trainer.model.named_parameters() if is_adapter(name)]


def _freeze_the_adapters(trainer: Any) -> None:
    for parameter in _adapters(trainer):
        parameter.requires_grad = False


def _thaw_the_base(trainer: Any) -> None:
    for parameter in trainer.model.parameters():
        parameter.requires_grad = True


def _freeze_one_adapter(trainer: Any) -> None:
    _adapters(trainer)[0].requires_grad = False


def _replace_the_adapter(trainer: Any) -> None:
    for parameter in _adapters(trainer):
        parameter.data += 0.02 * torch.randn_like(parameter)


def _mask_all_labels(trainer: Any) -> None:
    collate = trainer.data_collator

    def masked(rows: Any) -> Any:
        batch = collate(rows)
        batch["labels"] = torch.full_like(batch["labels"], -100)
        return batch

    trainer.data_collator = masked


def _ask_for_no_learning_rate(trainer: Any) -> None:
    trainer.args.learning_rate = 0.0


def _forget_the_schedule(trainer: Any) -> None:
    trainer.args.lr_scheduler_type = "constant"


def _give_the_optimizer_something_else(trainer: Any) -> None:
    trainer.create_optimizer = lambda *_: _set_optimizer(trainer, [torch.nn.Parameter(torch.zeros(1))])


def _give_the_optimizer_half(trainer: Any) -> None:
    trainer.create_optimizer = lambda *_: _set_optimizer(trainer, _adapters(trainer)[::2])


def _set_optimizer(trainer: Any, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    trainer.optimizer = torch.optim.AdamW(parameters, lr=trainer.args.learning_rate)
    return trainer.optimizer


def _zero_the_gradients(trainer: Any) -> None:
    for parameter in _adapters(trainer):
        parameter.register_hook(torch.zeros_like)


def _lose_the_gradients_after_two_steps(trainer: Any) -> None:
    for parameter in _adapters(trainer):
        steps = itertools.count(1)
        parameter.register_hook(lambda gradient, steps=steps: gradient * (next(steps) <= 2))


def _lose_two_gradients_after_two_steps(trainer: Any) -> None:
    """What the optimizer has gathered by then moves the weights on."""
    for parameter in _adapters(trainer)[:2]:
        steps = itertools.count(1)
        parameter.register_hook(lambda gradient, steps=steps: gradient * (next(steps) <= 2))


def _stop_two_tensors_after_two_steps(patch: pytest.MonkeyPatch) -> None:
    original, steps = torch.optim.AdamW.step, itertools.count(1)

    def faulty(self: Any, closure: Any = None) -> Any:
        two = self.param_groups[0]["params"][:2]
        kept = [parameter.detach().clone() for parameter in two]
        result = original(self, closure)
        if next(steps) > 2:
            for parameter, value in zip(two, kept, strict=True):
                parameter.data.copy_(value)
        return result

    patch.setattr(torch.optim.AdamW, "step", faulty)


def _poison_one_gradient(trainer: Any) -> None:
    _adapters(trainer)[0].register_hook(lambda gradient: gradient * float("nan"))


def _climb_instead_of_descending(trainer: Any) -> None:
    for parameter in _adapters(trainer):
        parameter.register_hook(torch.neg)


def _step_without_effect(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(torch.optim.AdamW, "step", lambda self, closure=None: None)


def _report_no_eval_loss(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SFTTrainer, "evaluate", lambda self, *args, **kwargs: {})


def _make_the_eval_loss_up(patch: pytest.MonkeyPatch) -> None:
    original, told = SFTTrainer.evaluate, itertools.count()
    patch.setattr(
        SFTTrainer, "evaluate", lambda self, *args, **kwargs: {**original(self), "eval_loss": 2.3 - next(told) * 0.68}
    )


def _freeze_while_training(patch: pytest.MonkeyPatch) -> None:
    original = SFTTrainer.train

    def faulty(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        _freeze_the_adapters(self)
        return result

    patch.setattr(SFTTrainer, "train", faulty)


def _save_something_else(patch: pytest.MonkeyPatch) -> None:
    original = SFTTrainer.save_model

    def faulty(self: Any, *args: Any, **kwargs: Any) -> None:
        kept = [parameter.detach().clone() for parameter in _adapters(self)]
        _replace_the_adapter(self)
        original(self, *args, **kwargs)
        for parameter, value in zip(_adapters(self), kept, strict=True):
            parameter.data.copy_(value)

    patch.setattr(SFTTrainer, "save_model", faulty)


def _answer_with_half_the_adapter(patch: pytest.MonkeyPatch) -> None:
    original = SFTTrainer.save_model

    def faulty(self: Any, directory: str, *args: Any, **kwargs: Any) -> None:
        original(self, directory, *args, **kwargs)
        saved = Path(directory) / "adapter_config.json"
        config = json.loads(saved.read_text(encoding="utf-8"))
        saved.write_text(json.dumps({**config, "lora_alpha": config["lora_alpha"] // 2}), encoding="utf-8")

    patch.setattr(SFTTrainer, "save_model", faulty)


def _switch_the_adapter_off_after_training(patch: pytest.MonkeyPatch) -> None:
    original, evaluations = SFTTrainer.evaluate, []

    def faulty(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        evaluations.append(result)
        if len(evaluations) == AFTER_TRAINING:
            for module in self.model.modules():
                if hasattr(module, "scaling") and isinstance(module.scaling, dict):
                    module.scaling = dict.fromkeys(module.scaling, 0.0)
        return result

    patch.setattr(SFTTrainer, "evaluate", faulty)


def _every_step(change: Callable[[Any], None]) -> Plant:
    """A fault that every step of the optimizer commits."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        original = SFTTrainer.training_step

        @functools.wraps(original)
        def faulty(self: Any, *args: Any, **kwargs: Any) -> Any:
            change(self)
            return original(self, *args, **kwargs)

        patch.setattr(SFTTrainer, "training_step", faulty)

    return plant


def _write_to_the_base(trainer: Any) -> None:
    norm = next(p for name, p in trainer.model.named_parameters() if name.endswith("norm.weight"))
    norm.data += 1e-6


def _let_one_class_stand_still(patch: pytest.MonkeyPatch) -> None:
    original = SFTTrainer.train

    def faulty(self: Any, *args: Any, **kwargs: Any) -> Any:
        first = next(p for name, p in self.model.named_parameters() if "lora_A" in name)
        kept = first.detach().clone()
        result = original(self, *args, **kwargs)
        first.data.copy_(kept)
        return result

    patch.setattr(SFTTrainer, "train", faulty)


def _hold_back_the_first_gradient(trainer: Any) -> None:
    steps: list[int] = []

    def hold_back(gradient: torch.Tensor) -> torch.Tensor:
        steps.append(1)
        return torch.zeros_like(gradient) if len(steps) == 1 else gradient

    next(p for name, p in trainer.model.named_parameters() if "lora_B" in name).register_hook(hold_back)


def _mask_the_end(trainer: Any) -> None:
    collate = trainer.data_collator

    def masked(rows: Any) -> Any:
        batch = collate(rows)
        # In place of an end that has a label, in releases that append one, one that has none: the labels stay as many.
        batch["labels"][batch["labels"] == EOS] = 0
        batch["input_ids"][batch["input_ids"] == EOS] = 0
        for name, value in (("input_ids", EOS), ("labels", -100), ("attention_mask", 1), ("position_ids", 0)):
            if name in batch:
                batch[name] = nn.functional.pad(batch[name], (0, 1), value=value)
        return batch

    trainer.data_collator = masked


def _give_half_another_rate(trainer: Any) -> None:
    def two_groups(*_: Any) -> torch.optim.Optimizer:
        adapters, rate = _adapters(trainer), trainer.args.learning_rate
        groups = [{"params": adapters[::2], "lr": rate}, {"params": adapters[1::2], "lr": rate / 2}]
        trainer.optimizer = torch.optim.AdamW(groups)
        return trainer.optimizer

    trainer.create_optimizer = two_groups


def _store_the_adapters_in_double(trainer: Any) -> None:
    for parameter in _adapters(trainer):
        parameter.data = parameter.data.double()


def _load_in_another_dtype(patch: pytest.MonkeyPatch) -> None:
    original = adapt.load_model

    def faulty(setup: Any) -> Any:
        model = original(setup)
        norm = next(module for name, module in model.named_modules() if name.endswith("norm"))
        norm.to(torch.bfloat16)
        return model

    patch.setattr(adapt, "load_model", faulty)


def _cast_a_norm(trainer: Any) -> None:
    next(module for name, module in trainer.model.named_modules() if name.endswith("norm")).to(torch.bfloat16)


def _reload_in_bfloat16(patch: pytest.MonkeyPatch) -> None:
    original = PeftModel.from_pretrained

    def faulty(*args: Any, **kwargs: Any) -> Any:
        model = original(*args, **kwargs)
        for name, parameter in model.named_parameters():
            if is_adapter(name):
                parameter.data = parameter.data.bfloat16()
        return model

    patch.setattr(PeftModel, "from_pretrained", faulty)


def _norm(model: Any) -> nn.Parameter:
    return next(parameter for name, parameter in model.named_parameters() if name.endswith("norm.weight"))


def _freeze_a_norm_at_load(patch: pytest.MonkeyPatch) -> None:
    original = adapt.load_model

    def faulty(setup: Any) -> Any:
        model = original(setup)
        _norm(model).requires_grad = False
        return model

    patch.setattr(adapt, "load_model", faulty)


def _prepare_all_but_a_norm(patch: pytest.MonkeyPatch) -> None:
    def faulty(model: Any, **options: Any) -> Any:
        prepared = prepare_model_for_kbit_training(model, **options)
        _norm(prepared).requires_grad = True
        return prepared

    patch.setattr(trainer_peft_model, "prepare_model_for_kbit_training", faulty)


def _miss_a_target(patch: pytest.MonkeyPatch) -> None:
    original = adapt.lora_config

    def faulty(setup: Any) -> Any:
        config = original(setup)
        config.target_modules = set(config.target_modules) - {"down_proj"}
        return config

    patch.setattr(adapt, "lora_config", faulty)


def _wrap_with_one_adapter_frozen(patch: pytest.MonkeyPatch) -> None:
    def faulty(*args: Any, **options: Any) -> Any:
        wrapped = get_peft_model(*args, **options)
        next(parameter for name, parameter in wrapped.named_parameters() if is_adapter(name)).requires_grad = False
        return wrapped

    patch.setattr(sft_peft_model, "get_peft_model", faulty)


def _reload_frozen(patch: pytest.MonkeyPatch) -> None:
    original = PeftModel.from_pretrained
    patch.setattr(PeftModel, "from_pretrained", lambda base, path, **_: original(base, path))


def _add_a_parameter(trainer: Any) -> None:
    trainer.model.register_parameter("planted", nn.Parameter(torch.zeros(3), requires_grad=False))


def _use_another_attention(patch: pytest.MonkeyPatch) -> None:
    original = adapt.load_model
    patch.setattr(adapt, "load_model", lambda setup: original(dataclasses.replace(setup, attention="eager")))


def _lose_an_option(patch: pytest.MonkeyPatch) -> None:
    original = adapt.configured

    def faulty(config: type[Any], options: dict[str, Any], setup: Any) -> Any:
        return original(config, {**options, "an_option_of_another_release": 1}, setup)

    patch.setattr(adapt, "configured", faulty)


def _report_a_gradient_norm_of(value: float) -> Plant:
    """Clipping works, and returns something else than the norm."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        original = Accelerator.clip_grad_norm_

        def faulty(self: Any, *args: Any, **kwargs: Any) -> Any:
            return original(self, *args, **kwargs).new_tensor(value)

        patch.setattr(Accelerator, "clip_grad_norm_", faulty)

    return plant


def _report_a_training_loss_of_nan(trainer: Any) -> None:
    """Which Trainer adds up as 0, unless it is told not to."""
    step = trainer.training_step
    trainer.training_step = lambda *args, **kwargs: step(*args, **kwargs) * float("nan")


def _log_a_training_loss_of_nan(trainer: Any) -> None:
    trainer.args.logging_nan_inf_filter = False
    _report_a_training_loss_of_nan(trainer)


def _train_on_the_evaluation_set(trainer: Any) -> None:
    trainer.train_dataset = trainer.eval_dataset


def _train_twice_on_half_the_rows(trainer: Any) -> None:
    rows = len(trainer.train_dataset)
    trainer.train_dataset = trainer.train_dataset.select([row // 2 for row in range(rows)])


def _train_in_order(trainer: Any) -> None:
    trainer._get_train_sampler = lambda *_: range(len(trainer.train_dataset))


def _evaluate_half_the_rows(trainer: Any) -> None:
    trainer.eval_dataset = trainer.eval_dataset.select(range(len(trainer.eval_dataset) // 2))


def _shift_the_labels(trainer: Any) -> None:
    """The model shifts them once more."""
    collate = trainer.data_collator

    def shifted(rows: Any) -> Any:
        batch = collate(rows)
        return {**batch, "labels": batch["labels"].roll(-1, dims=1)}

    trainer.data_collator = shifted


def _dropouts(trainer: Any) -> list[nn.Module]:
    return [module for name, module in trainer.model.named_modules() if "lora_dropout." in name]


def _disable_dropout(trainer: Any) -> None:
    for module in _dropouts(trainer):
        module.p = 0.0


def _leave_dropout_on(trainer: Any) -> None:
    for module in _dropouts(trainer):
        module.train = lambda mode=True, module=module: module


def _multiply_the_gradient(factor: float) -> Plant:
    """The loss that is differentiated is not the loss that is logged."""

    def change(trainer: Any) -> None:
        backward = trainer.accelerator.backward
        trainer.accelerator.backward = lambda loss, **options: backward(loss * factor, **options)

    return _after_construction(change)


def _multiply_the_loss(trainer: Any) -> None:
    """As by a number of items that is wrong: loss, gradient and log."""
    compute = trainer.compute_loss
    trainer.compute_loss = lambda *args, **kwargs: _tenfold(compute(*args, **kwargs))


def _tenfold(computed: Any) -> Any:
    return (computed[0] * 10, *computed[1:]) if isinstance(computed, tuple) else computed * 10


def _log_four_times_the_loss(trainer: Any) -> None:
    step = trainer.training_step
    trainer.training_step = lambda *args, **kwargs: step(*args, **kwargs) * 4


def _log_half_the_gradient_norm(patch: pytest.MonkeyPatch) -> None:
    original = Accelerator.clip_grad_norm_
    patch.setattr(Accelerator, "clip_grad_norm_", lambda self, *args, **kwargs: original(self, *args, **kwargs) / 2)


def _ask_for(**options: float) -> Plant:
    """Other options of the optimizer than the user's."""

    def change(trainer: Any) -> None:
        for name, value in options.items():
            setattr(trainer.args, name, value)

    return _after_construction(change)


def _halve_the_gradients_before_the_step(patch: pytest.MonkeyPatch) -> None:
    """From the second step on: AdamW does not notice a factor that is always the same."""
    original, steps = torch.optim.AdamW.step, itertools.count(1)

    def faulty(self: Any, closure: Any = None) -> Any:
        if next(steps) > 1:
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.grad /= 2
        return original(self, closure)

    patch.setattr(torch.optim.AdamW, "step", faulty)


def _attend_with(change: Callable[[Any, bool], tuple[Any, bool]]) -> Plant:
    """A fault of the attention: other values of `attn_mask` and `is_causal`."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        original = nn.functional.scaled_dot_product_attention

        def faulty(*args: Any, attn_mask: Any = None, is_causal: bool = False, **kwargs: Any) -> Any:
            mask, causal = change(attn_mask, is_causal)
            return original(*args, attn_mask=mask, is_causal=causal, **kwargs)

        patch.setattr(nn.functional, "scaled_dot_product_attention", faulty)

    return plant


def _evaluate_the_first_weights(patch: pytest.MonkeyPatch) -> None:
    """As an evaluation that loads the first checkpoint: the trained weights are back when it ends."""
    original = SFTTrainer.evaluate

    def faulty(self: Any, *args: Any, **kwargs: Any) -> Any:
        trained = [parameter.detach().clone() for parameter in _adapters(self)]
        self.planted_first = getattr(self, "planted_first", trained)
        for parameter, value in zip(_adapters(self), self.planted_first, strict=True):
            parameter.data.copy_(value)
        result = original(self, *args, **kwargs)
        for parameter, value in zip(_adapters(self), trained, strict=True):
            parameter.data.copy_(value)
        return result

    patch.setattr(SFTTrainer, "evaluate", faulty)


def _crash(trainer: Any) -> None:
    raise RuntimeError("planted")


kept: list[object] = []
"""A module's global."""


def _keep_the_model(trainer: Any) -> None:
    kept.append(trainer.model)


def _keep_one_adapter(trainer: Any) -> None:
    kept.append(_adapters(trainer)[0])


FAULTS: tuple[tuple[str, PlannedCell, Plant, str], ...] = (
    # name, cell, fault, the one check that names it; finetune_compat.evidence.faults reads first and last
    ("freeze-the-adapters", ATTACHED_BY_TRAINER, _after_construction(_freeze_the_adapters), "C104"),
    ("freeze-one-adapter", ATTACHED_BY_USER, _after_construction(_freeze_one_adapter), "C104"),
    ("thaw-the-base", ATTACHED_BY_TRAINER, _after_construction(_thaw_the_base), "C104"),
    ("freeze-while-training", ATTACHED_BY_TRAINER, _freeze_while_training, "C105"),
    ("replace-the-adapter", ATTACHED_BY_USER, _after_construction(_replace_the_adapter), "A201"),
    ("save-something-else", ATTACHED_BY_TRAINER, _save_something_else, "A202"),
    ("mask-all-labels", ATTACHED_BY_TRAINER, _after_construction(_mask_all_labels), "L501"),
    ("empty-the-optimizer", ATTACHED_BY_TRAINER, _after_construction(_give_the_optimizer_something_else), "O301"),
    ("halve-the-optimizer", ATTACHED_BY_TRAINER, _after_construction(_give_the_optimizer_half), "O301"),
    ("zero-the-learning-rate", ATTACHED_BY_TRAINER, _after_construction(_ask_for_no_learning_rate), "R601"),
    ("forget-the-schedule", ATTACHED_BY_TRAINER, _after_construction(_forget_the_schedule), "R601"),
    ("zero-the-gradients", ATTACHED_BY_TRAINER, _after_construction(_zero_the_gradients), "G401"),
    ("lose-the-gradients", ATTACHED_BY_TRAINER, _after_construction(_lose_the_gradients_after_two_steps), "G401"),
    ("lose-two-gradients", ATTACHED_BY_TRAINER, _after_construction(_lose_two_gradients_after_two_steps), "G405"),
    ("stop-two-tensors", ATTACHED_BY_TRAINER, _stop_two_tensors_after_two_steps, "W703"),
    ("report-a-gradient-norm-of-nan", ATTACHED_BY_TRAINER, _report_a_gradient_norm_of(float("nan")), "G404"),
    ("report-a-gradient-norm-of-zero", ATTACHED_BY_TRAINER, _report_a_gradient_norm_of(0.0), "G404"),
    ("report-a-training-loss-of-nan", ATTACHED_BY_TRAINER, _after_construction(_report_a_training_loss_of_nan), "E807"),
    ("log-a-training-loss-of-nan", ATTACHED_BY_TRAINER, _after_construction(_log_a_training_loss_of_nan), "E807"),
    ("poison-one-gradient", ATTACHED_BY_TRAINER, _after_construction(_poison_one_gradient), "G401"),
    ("step-without-effect", ATTACHED_BY_TRAINER, _step_without_effect, "W701"),
    ("report-no-eval-loss", ATTACHED_BY_TRAINER, _report_no_eval_loss, "E801"),
    ("make-the-eval-loss-up", ATTACHED_BY_TRAINER, _make_the_eval_loss_up, "E806"),
    ("climb-instead-of-descending", ATTACHED_BY_TRAINER, _after_construction(_climb_instead_of_descending), "G406"),
    ("evaluate-the-first-weights", ATTACHED_BY_TRAINER, _evaluate_the_first_weights, "E802"),
    ("train-on-the-evaluation-set", ATTACHED_BY_TRAINER, _after_construction(_train_on_the_evaluation_set), "B101"),
    ("train-twice-on-half-the-rows", ATTACHED_BY_TRAINER, _after_construction(_train_twice_on_half_the_rows), "B101"),
    ("train-in-order", ATTACHED_BY_TRAINER, _after_construction(_train_in_order), "B102"),
    ("evaluate-half-the-rows", ATTACHED_BY_TRAINER, _after_construction(_evaluate_half_the_rows), "B103"),
    ("see-later-tokens", ATTACHED_BY_TRAINER, _attend_with(lambda mask, causal: (None, False)), "B201"),
    ("attend-to-padding", ATTACHED_BY_TRAINER, _attend_with(lambda mask, causal: (None, True)), "B202"),
    ("shift-the-labels", ATTACHED_BY_TRAINER, _after_construction(_shift_the_labels), "L503"),
    ("disable-dropout", ATTACHED_BY_TRAINER, _after_construction(_disable_dropout), "P103"),
    ("leave-dropout-on", ATTACHED_BY_TRAINER, _after_construction(_leave_dropout_on), "P103"),
    ("multiply-the-gradient", ATTACHED_BY_TRAINER, _multiply_the_gradient(4), "G406"),
    ("divide-the-gradient", ATTACHED_BY_USER, _multiply_the_gradient(1 / 8), "G406"),
    ("multiply-the-loss", ATTACHED_BY_TRAINER, _after_construction(_multiply_the_loss), "G406"),
    ("log-four-times-the-loss", ATTACHED_BY_TRAINER, _after_construction(_log_four_times_the_loss), "E809"),
    ("log-half-the-gradient-norm", ATTACHED_BY_TRAINER, _log_half_the_gradient_norm, "G407"),
    ("decay-the-weights", ATTACHED_BY_TRAINER, _ask_for(weight_decay=0.01), "O302"),
    ("forget-the-second-moment", ATTACHED_BY_TRAINER, _ask_for(adam_beta2=0.99), "O302"),
    ("enlarge-epsilon", ATTACHED_BY_TRAINER, _ask_for(adam_epsilon=1e-6), "O302"),
    ("clip-more", ATTACHED_BY_TRAINER, _ask_for(max_grad_norm=0.1), "O302"),
    ("clip-nothing", ATTACHED_BY_TRAINER, _ask_for(max_grad_norm=0.0), "O302"),
    ("halve-the-gradients", ATTACHED_BY_USER, _halve_the_gradients_before_the_step, "O302"),
    ("freeze-a-norm-at-load", ATTACHED_BY_TRAINER, _freeze_a_norm_at_load, "C101"),
    ("prepare-all-but-a-norm", PREPARED_BY_USER, _prepare_all_but_a_norm, "C102"),
    ("miss-a-target", ATTACHED_BY_USER, _miss_a_target, "C120"),
    ("wrap-with-one-adapter-frozen", ATTACHED_BY_USER, _wrap_with_one_adapter_frozen, "C103"),
    ("reload-frozen", ATTACHED_BY_TRAINER, _reload_frozen, "C106"),
    ("add-a-parameter", ATTACHED_BY_TRAINER, _after_construction(_add_a_parameter), "C110"),
    ("use-another-attention", ATTACHED_BY_TRAINER, _use_another_attention, "P102"),
    ("load-in-another-dtype", ATTACHED_BY_TRAINER, _load_in_another_dtype, "D801"),
    ("store-adapters-in-double", ATTACHED_BY_TRAINER, _after_construction(_store_the_adapters_in_double), "D802"),
    ("cast-a-norm-in-the-trainer", ATTACHED_BY_TRAINER, _after_construction(_cast_a_norm), "D801"),
    ("reload-in-bfloat16", ATTACHED_BY_TRAINER, _reload_in_bfloat16, "D802"),
    ("mask-the-end", ATTACHED_BY_TRAINER, _after_construction(_mask_the_end), "L502"),
    ("give-half-another-rate", ATTACHED_BY_TRAINER, _after_construction(_give_half_another_rate), "R601"),
    ("hold-back-a-gradient", ATTACHED_BY_TRAINER, _after_construction(_hold_back_the_first_gradient), "G401"),
    ("let-one-class-stand-still", ATTACHED_BY_TRAINER, _let_one_class_stand_still, "W701"),
    ("write-to-the-base", ATTACHED_BY_TRAINER, _every_step(_write_to_the_base), "W702"),
    ("switch-the-adapter-off", ATTACHED_BY_TRAINER, _switch_the_adapter_off_after_training, "A204"),
    ("answer-with-half-the-adapter", ATTACHED_BY_TRAINER, _answer_with_half_the_adapter, "A203"),
    ("lose-an-option", ATTACHED_BY_TRAINER, _lose_an_option, "P101"),
    ("crash", ATTACHED_BY_TRAINER, _after_construction(_crash), "F001"),
    ("keep-the-model", ATTACHED_BY_TRAINER, _after_construction(_keep_the_model), "M901"),
    ("keep-one-adapter", ATTACHED_BY_USER, _after_construction(_keep_one_adapter), "M901"),
)


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    yield
    kept.clear()


@pytest.mark.parametrize("cell", [ATTACHED_BY_TRAINER, ATTACHED_BY_USER, PREPARED_BY_USER], ids=str)
def test_nothing_planted_nothing_found(plan: Plan, cell: PlannedCell) -> None:
    """The stack is healthy: without a fault each cell passes every check."""
    verdict = judge(runner.run_cell(plan, cell), flow_named(cell.flow), ())
    assert verdict.outcome is Outcome.PASS, verdict.reason


@pytest.mark.parametrize(("name", "cell", "plant", "code"), FAULTS, ids=[fault[0] for fault in FAULTS])
def test_planted_fault_is_named(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, noted: Noted, name: str, cell: PlannedCell, plant: Plant, code: str
) -> None:
    """Each planted fault fails the cell, and exactly the check that names it is at the root."""
    plant(monkeypatch)
    seen = runner.run_cell(plan, cell)
    verdict = judge(seen, flow_named(cell.flow), ())
    assert verdict.outcome is Outcome.FAIL
    assert verdict.failing == (code,), verdict.reason
    noted(name, seen, verdict)


def test_every_check_has_a_fault() -> None:
    """A check that no planted fault fails may be one that cannot fail."""
    named = {fault[-1] for fault in FAULTS} | {fault[-1] for fault in test_deep_faults.FAULTS}
    assert named == {check.code for check in CHECKS}


def test_what_one_cell_keeps_is_not_held_against_the_next(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same flow, with a trainer that keeps its model and then without, in one process."""
    cell = ATTACHED_BY_TRAINER
    with monkeypatch.context() as patch:
        _after_construction(_keep_the_model)(patch)
        assert judge(runner.run_cell(plan, cell), flow_named(cell.flow), ()).failing == ("M901",)
    assert judge(runner.run_cell(plan, cell), flow_named(cell.flow), ()).outcome is Outcome.PASS
