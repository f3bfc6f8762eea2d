"""Every problem, planted into a healthy run, and similar runs without a problem."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from accelerate.utils import DistributedType
from conftest import Make
from finetune_compat import TrainingGuard, TrainingStopped
from finetune_compat.cell import guard as guard_module
from finetune_compat.cell.guard import TrainingWarning
from finetune_compat.cell.instruments.census import is_adapter
from finetune_compat.checks.guard_checks import LOOKS_AT_EACH, SCALER_SKIPS
from guarded_runs import ADAPTER, EVERYTHING, TENSORS, adapters, finishes, freeze, silence, stopped, warned
from torch import nn
from transformers import TrainerCallback, set_seed

# ----------------------------------------------------------------------------------------------------------- healthy


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gradient_accumulation_steps": 4},
        {"gradient_checkpointing": True},
        {"warmup_steps": 5},
        {"lr_scheduler_type": "cosine", "max_steps": 20},
        {"optim": "adafactor"},
        {"max_grad_norm": 0.0},
        {"per_device_train_batch_size": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("every", [1, 50])
def test_healthy_runs_pass_in_silence(sft: Make, full: Make, options: dict[str, Any], every: int) -> None:
    """This holds with and without adapters, with evaluations before, after and in between, for every interval of
    checks.
    """
    for make in (sft, full):
        trainer = make(TrainingGuard(every=every), **options)
        if trainer.args.gradient_checkpointing:
            trainer.model.enable_input_require_grads()  # before Transformers 5.0 nothing else does this
        with silence():
            trainer.evaluate()
        finishes(trainer)
        with silence():
            trainer.evaluate()


def test_a_guarded_run_is_the_run_without_it(sft: Make) -> None:
    """Every weight is equal bit for bit, and no hook remains on the model."""
    trained = []
    for callbacks in ((), (TrainingGuard(every=1),)):
        set_seed(0)
        trainer = sft(*callbacks)
        trainer.train()
        trained.append(trainer)
    plain, guarded = (adapters(trainer).values() for trainer in trained)
    assert all(torch.equal(one, other) for one, other in zip(plain, guarded, strict=True))
    assert not trained[1].model._forward_pre_hooks
    assert not any(getattr(p, "_post_accumulate_grad_hooks", None) for p in trained[1].model.parameters())


# ------------------------------------------------------------------------------------------------- nothing trainable


def test_frozen_adapters_stop_before_the_first_step(sft: Make) -> None:
    """TRL leaves adapters so in trl#3926."""
    trainer = sft(TrainingGuard())
    freeze(adapters(trainer).values())
    line = f"nothing is trainable: 0 of {EVERYTHING:,} parameters; all {ADAPTER:,} adapter parameters are frozen"
    assert stopped(trainer) == ("C104", line, 0)


def test_the_message_for_a_frozen_model_without_adapters(full: Make) -> None:
    """The message does not mention adapters."""
    trainer = full(TrainingGuard())
    freeze(trainer.model.parameters())
    line = f"nothing is trainable: 0 of {EVERYTHING - ADAPTER:,} parameters"
    assert stopped(trainer) == ("C104", line, 0)


def test_one_trainable_tensor_is_something(sft: Make) -> None:
    """The user decides how much of a model trains."""
    trainer = sft(TrainingGuard())
    freeze([p for name, p in adapters(trainer).items() if "0.self_attn.q_proj.lora_B" not in name])
    finishes(trainer)


# --------------------------------------------------------------------------------------------------------- optimizer


def _optimizer_of(trainer: Any, parameters: list[nn.Parameter]) -> None:
    trainer.optimizer = torch.optim.AdamW(parameters, lr=0.01)


def test_an_optimizer_of_something_else_stops_before_the_first_step(sft: Make) -> None:
    """It was made from parameters that a later call replaced."""
    trainer = sft(TrainingGuard())
    _optimizer_of(trainer, [nn.Parameter(torch.zeros(3))])
    line = f"the optimizer holds 3 parameters and none of the {ADAPTER:,} trainable ones"
    assert stopped(trainer) == ("O301", line, 0)


def test_an_empty_optimizer_stops_before_the_first_step(sft: Make) -> None:
    """The Trainer made it while everything was frozen, and the adapter was unfrozen afterwards (trl#6700)."""
    trainer = sft(TrainingGuard())
    freeze(adapters(trainer).values())
    trainer.create_optimizer()
    for parameter in adapters(trainer).values():
        parameter.requires_grad = True
    line = f"the optimizer is empty: it holds none of the {ADAPTER:,} trainable parameters"
    assert stopped(trainer) == ("O301", line, 0)


def test_an_optimizer_of_the_frozen_parameters_stops_before_the_first_step(sft: Make) -> None:
    """It holds many parameters, and none that trains."""
    trainer = sft(TrainingGuard())
    _optimizer_of(trainer, [p for name, p in trainer.model.named_parameters() if not is_adapter(name)])
    line = f"the optimizer holds {EVERYTHING - ADAPTER:,} parameters and none of the {ADAPTER:,} trainable ones"
    assert stopped(trainer) == ("O301", line, 0)


def test_parameters_the_optimizer_misses_are_named_and_counted(sft: Make) -> None:
    """The message has the first three and the number of others."""
    trainer = sft(TrainingGuard())
    named = adapters(trainer)
    left_out = [name for name in named if "lora_A" in name]
    _optimizer_of(trainer, [p for name, p in named.items() if "lora_B" in name])
    elements = sum(named[name].numel() for name in left_out)
    line = (
        f"the optimizer misses {elements:,} of {ADAPTER:,} trainable parameters: "
        f"{', '.join(left_out[:3])} and {TENSORS // 2 - 3} more"
    )
    assert stopped(trainer) == ("O301", line, 0)


def test_an_optimizer_that_holds_frozen_parameters_too_is_fine(sft: Make) -> None:
    """They receive no gradient and do not change."""
    trainer = sft(TrainingGuard())
    _optimizer_of(trainer, list(trainer.model.parameters()))
    finishes(trainer)


def test_an_optimizer_for_each_layer_is_fine(sft: Make) -> None:
    """Transformers passes a stand-in without parameters, and each gradient is consumed when it arrives."""
    try:
        from transformers.trainer_pt_utils import LayerWiseDummyOptimizer
    except ImportError:
        pytest.skip("Transformers before 4.39 has no layer-wise optimizers")
    trainer = sft(TrainingGuard())
    each = {p: torch.optim.AdamW([p], lr=0.01) for p in adapters(trainer).values()}

    def step(parameter: nn.Parameter) -> None:
        each[parameter].step()
        each[parameter].zero_grad()

    for parameter in each:
        parameter.register_post_accumulate_grad_hook(step)
    trainer.optimizer = LayerWiseDummyOptimizer(optimizer_dict=each, lr=0.01)
    trainer.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(trainer.optimizer, lambda step: 1.0)
    finishes(trainer)


# ------------------------------------------------------------------------------------------------------------ labels


def _mask(trainer: Any, rows: Callable[[int, torch.Tensor], torch.Tensor]) -> None:
    """Mask the rows of each batch that a function of its number and its labels selects."""
    collate, numbers = trainer.data_collator, iter(range(10_000))

    def masked(features: Any) -> Any:
        batch = collate(features)
        batch["labels"] = batch["labels"].masked_fill(rows(next(numbers), batch["labels"])[:, None], -100)
        return batch

    trainer.data_collator = masked


NO_LABELS = ("L501", "there is nothing to learn in steps 1 to 3: none of 24 rows has a label to predict", 3)


@pytest.mark.parametrize("make", ["sft", "full"])
def test_batches_without_any_label_stop_after_three_steps(make: str, request: pytest.FixtureRequest) -> None:
    """The gradient is zero; the labels, which are the cause, are named instead of the gradient."""
    trainer = request.getfixturevalue(make)(TrainingGuard())
    _mask(trainer, lambda number, labels: torch.ones(len(labels), dtype=torch.bool))
    assert stopped(trainer) == NO_LABELS


def test_with_one_row_in_a_step_eight_rows_are_needed(sft: Make) -> None:
    """Three truncated rows in sequence may be chance."""
    trainer = sft(TrainingGuard(), per_device_train_batch_size=1)
    _mask(trainer, lambda number, labels: torch.ones(len(labels), dtype=torch.bool))
    line = "there is nothing to learn in steps 1 to 8: none of 8 rows has a label to predict"
    assert stopped(trainer) == ("L501", line, 8)


def test_five_rows_in_sequence_without_labels_stop_nothing(sft: Make) -> None:
    """Rows with labels follow. There is a warning, and no problem with the missing gradient."""
    trainer = sft(TrainingGuard(), per_device_train_batch_size=1)
    _mask(trainer, lambda number, labels: torch.full((len(labels),), number < 5))
    [line] = warned(trainer)
    assert line.startswith("5 of 6 checked rows have no label to predict: ")


def test_batches_without_any_label_that_spoil_the_gradient_stop_at_once(sft: Make) -> None:
    """In releases whose loss makes the gradient NaN, it is in the weights after the first step."""
    trainer = sft(TrainingGuard())
    _mask(trainer, lambda number, labels: torch.ones(len(labels), dtype=torch.bool))
    _from_step(trainer, 1, lambda gradient: gradient * float("nan"))
    line = "there is nothing to learn in step 1: none of 8 rows has a label to predict, and the gradient is not finite"
    assert stopped(trainer) == ("L501", line, 1)


def test_rows_of_a_single_token_have_nothing_to_learn(sft: Make) -> None:
    """A tokenizer without matching tokens leaves such rows: the only label is the end token, which nothing predicts."""
    trainer = sft(TrainingGuard())
    collate = trainer.data_collator
    trainer.data_collator = lambda rows: {name: values[:, :1] for name, values in collate(rows).items()}
    assert stopped(trainer) == NO_LABELS


def test_some_rows_without_labels_are_a_warning(sft: Make) -> None:
    """Such rows cost time and train nothing. The warning comes once, with the count so far."""
    trainer = sft(TrainingGuard())
    _mask(trainer, lambda number, labels: torch.arange(len(labels)) < 3)
    [line] = warned(trainer)
    assert line == (
        "3 of 8 checked rows have no label to predict: every label is -100, except perhaps the first. "
        "These rows take time and train nothing; check the maximum length and the mask."
    )


# --------------------------------------------------------------------------------------------------------- not finite


def _from_step(trainer: Any, first: int, change: Callable[[torch.Tensor], torch.Tensor], *names: str) -> None:
    """Change gradients from a step on, of all trained tensors or of the named ones."""
    chosen = {name: p for name, p in adapters(trainer).items() if name in names or not names}

    def hook(gradient: torch.Tensor) -> torch.Tensor:
        return change(gradient) if trainer.state.global_step + 1 >= first else gradient

    assert chosen
    for parameter in chosen.values():
        parameter.register_hook(hook)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_one_gradient_that_is_not_finite_is_named_at_its_step(sft: Make, value: float) -> None:
    """It is found before clipping spreads it: the message names exactly the tensor in which it arose."""
    trainer = sft(TrainingGuard())
    name = list(adapters(trainer))[5]
    _from_step(trainer, 2, lambda gradient: torch.full_like(gradient, value), name)
    line = f"gradients are NaN or infinite in step 2, in 1 of {TENSORS} trainable tensors: {name}"
    assert stopped(trainer) == ("G404", line, 2)


def test_what_happens_between_two_checks_is_found_at_the_next(sft: Make) -> None:
    """A NaN in the weights stays, so it is found within `every` steps: at 7, the next after 4 and after the first 3."""
    trainer = sft(TrainingGuard(every=3))
    _from_step(trainer, 5, lambda gradient: gradient * float("nan"))
    code, line, steps = stopped(trainer)
    assert (code, steps) == ("G404", 7)
    assert line.startswith(f"gradients are NaN or infinite in step 7, in {TENSORS} of {TENSORS} trainable tensors: ")


def test_a_row_without_labels_is_named_beside_the_gradient_it_spoils(sft: Make) -> None:
    """With one row in a micro-batch, the row's loss is NaN, and so is the gradient of the whole step."""
    trainer = sft(TrainingGuard(), gradient_accumulation_steps=4, per_device_train_batch_size=1)
    _mask(trainer, lambda number, labels: torch.full((len(labels),), number % 4 == 1))
    _from_step(trainer, 1, lambda gradient: gradient * float("nan"))
    with pytest.raises(TrainingStopped) as caught:
        trainer.train()
    assert caught.value.code == "G404"
    hint = "1 of 4 rows of the step had no label to predict: their loss is NaN."
    assert caught.value.meaning.endswith(hint)


def _scale(trainer: Any, skips: int) -> None:
    """A real gradient scaler whose first steps overflow, as in float16 until the scale is small enough."""
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu")
    done = iter(range(10_000))

    def overflow(gradient: torch.Tensor) -> torch.Tensor:
        return gradient * float("inf") if next(done) < skips else gradient

    next(iter(adapters(trainer).values())).register_hook(overflow)


@pytest.mark.parametrize("skips", [1, 8, 16])
def test_steps_that_a_gradient_scaler_skips_are_no_problem(sft: Make, skips: int) -> None:
    """It starts at 2**16 and halves at each overflow, so 16 in sequence are normal."""
    trainer = sft(TrainingGuard(), max_steps=25)
    _scale(trainer, skips)
    finishes(trainer)


def test_a_gradient_scaler_that_skips_every_step_stops_the_run(sft: Make) -> None:
    """Even a scale of 1 did not help."""
    trainer = sft(TrainingGuard(), max_steps=40)
    _scale(trainer, 10_000)
    code, line, steps = stopped(trainer)
    assert (code, steps) == ("G404", SCALER_SKIPS + 1)
    assert line.startswith(
        f"gradients are NaN or infinite in steps 1 to {SCALER_SKIPS + 1}, in 1 of {TENSORS} trainable"
    )


# -------------------------------------------------------------------------------------------------------- no gradient


def test_gradients_that_are_all_zero_stop_after_three_steps(sft: Make) -> None:
    """The gradients arrive and are exactly zero."""
    trainer = sft(TrainingGuard())
    _from_step(trainer, 1, torch.zeros_like)
    line = (
        "no gradient reaches the weights in steps 1 to 3: "
        f"of {TENSORS} trainable tensors 0 received none and {TENSORS} only zeros"
    )
    assert stopped(trainer) == ("G401", line, 3)


def test_gradients_that_never_arrive_stop_after_the_given_steps(full: Make) -> None:
    """The loss is computed from something else."""
    trainer = full(TrainingGuard(patience=2))
    other = nn.Parameter(torch.ones(()))
    trainer.compute_loss = lambda model, inputs, *args, **kwargs: other * 2.0
    tensors = len(list(trainer.model.parameters()))
    line = (
        "no gradient reaches the weights in steps 1 to 2: "
        f"of {tensors} trainable tensors {tensors} received none and 0 only zeros"
    )
    assert stopped(trainer) == ("G401", line, 2)


def test_a_gradient_that_becomes_zero_later_is_found(sft: Make) -> None:
    """The check at step 7 finds it first, and the next two confirm it."""
    trainer = sft(TrainingGuard(every=3))
    _from_step(trainer, 5, torch.zeros_like)
    code, line, steps = stopped(trainer)
    assert (code, steps) == ("G401", 9)
    assert line.startswith("no gradient reaches the weights in steps 7 to 9: ")


def test_two_steps_without_a_gradient_are_no_problem(sft: Make) -> None:
    """The third step has a gradient."""
    trainer = sft(TrainingGuard(every=1))
    for parameter in adapters(trainer).values():
        parameter.register_hook(lambda g: torch.zeros_like(g) if trainer.state.global_step % 3 != 2 else g)
    finishes(trainer)


def test_tensors_that_are_idle_while_others_train_stop_nothing(sft: Make) -> None:
    """An expert that receives no token is idle in each of these steps."""
    trainer = sft(TrainingGuard(every=1), max_steps=LOOKS_AT_EACH - 1)
    first, *others = (name for name in adapters(trainer) if "lora_B" in name)
    assert first
    _from_step(trainer, 1, torch.zeros_like, *others)
    finishes(trainer)


def test_tensors_that_were_idle_in_ten_checks_are_a_warning(sft: Make) -> None:
    """A disconnected layer is reported once, with its first tensors; the run continues."""
    trainer = sft(TrainingGuard(every=1), max_steps=3 * LOOKS_AT_EACH)
    cut_off = [name for name in adapters(trainer) if "layers.0." in name]
    _from_step(trainer, 1, torch.zeros_like, *cut_off)
    [line] = warned(trainer)
    assert line == (
        "14 of 28 trained tensors received no gradient other than zero in 10 checked steps: "
        f"{', '.join(cut_off[:3])} and 11 more. Experts may be idle. Other layers are cut off from the loss, for "
        "example by gradient checkpointing over inputs that need no gradient."
    )


# --------------------------------------------------------------------------------------------------------- standstill


def test_a_step_without_effect_stops_after_three_of_them(sft: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients arrive, and no weight changes. Under the linear schedule 0.01, 0.009 ... the learning rates of four
    steps add up to three full steps.
    """
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self, closure=None: None)
    line = (
        f"the weights never change: after 4 steps all {TENSORS} trained tensors ({ADAPTER:,} parameters) are "
        "bit for bit what they were, at a learning rate of 0.007"
    )
    assert stopped(sft(TrainingGuard(), learning_rate=0.01)) == ("W701", line, 4)


def test_a_learning_rate_of_zero_stops_after_three_steps(full: Make) -> None:
    """The message names it, because it is the cause."""
    code, line, steps = stopped(full(TrainingGuard(), learning_rate=0.0))
    assert (code, steps) == ("W701", 3)
    assert line.endswith(" at a learning rate of 0")


@pytest.mark.parametrize("rate", [1e-6, 1e-9])
def test_the_smallest_change_is_a_change(sft: Make, rate: float) -> None:
    """Nearly dead is not dead: some bits change."""
    finishes(sft(TrainingGuard(), learning_rate=rate))


def test_a_long_warm_up_is_no_problem(full: Make) -> None:
    """Seventeen of its hundred steps add up to one and a half full steps: unchanged weights mean nothing yet."""
    trainer = full(TrainingGuard(), warmup_steps=100, max_steps=17)
    trainer.optimizer = torch.optim.SGD(trainer.model.parameters(), lr=1e-30)
    finishes(trainer)


# ---------------------------------------------------------------------------------------------------------- eval loss


class Evaluated(TrainerCallback):
    """Records the steps at which an evaluation ended."""

    def __init__(self) -> None:
        self.at: list[int] = []

    def on_evaluate(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self.at.append(state.global_step)


def _evaluate_every(trainer: Any, steps: int) -> Any:
    """Evaluate during training; the option has had two names, and the callback that reads it only one."""
    args = trainer.args
    steps_strategy = type(args.logging_strategy)("steps")
    setattr(args, "eval_strategy" if hasattr(args, "eval_strategy") else "evaluation_strategy", steps_strategy)
    args.eval_steps = steps
    return trainer


def _look_up(trainer: Any, loss: float) -> None:
    """An evaluation that ignores the model."""
    trainer.prediction_step = lambda *_, **__: (torch.tensor(loss), None, None)


def test_an_eval_loss_that_stays_flat_stops_the_run(sft: Make) -> None:
    """It stops at step 8: under the linear schedule the steps since the evaluation at 2 add up to 0.8 + 0.7 + 0.6 + 0.5
    + 0.4 + 0.3 full steps, and those up to 6 only to 2.6 of the required 3.
    """
    trainer = _evaluate_every(sft(TrainingGuard()), 2)
    _look_up(trainer, 3.2896218)
    line = "eval loss is flat to 6 decimals: 3.289622 -> 3.289622 (eval_loss, 6 steps apart)"
    assert stopped(trainer) == ("E803", line, 8)


def test_an_eval_loss_that_is_flat_over_the_whole_run_stops_the_script_after_it(sft: Make) -> None:
    """The user evaluates before and after training: the second evaluation raises."""
    trainer = sft(TrainingGuard())
    _look_up(trainer, 3.289622)
    trainer.evaluate()
    finishes(trainer)
    line = "eval loss is flat to 6 decimals: 3.289622 -> 3.289622 (eval_loss, 10 steps apart)"
    assert stopped(trainer, trainer.evaluate) == ("E803", line, 10)


def test_an_eval_loss_that_stays_nan_is_flat(sft: Make) -> None:
    """Every label of the evaluation rows is masked."""
    trainer = sft(TrainingGuard())
    _look_up(trainer, float("nan"))
    trainer.evaluate()
    finishes(trainer)
    line = "eval loss is flat to 6 decimals: nan -> nan (eval_loss, 10 steps apart)"
    assert stopped(trainer, trainer.evaluate) == ("E803", line, 10)


def test_a_loss_of_one_of_several_eval_sets_is_named(sft: Make) -> None:
    """The other loss changes."""
    trainer = sft(TrainingGuard())
    rows = trainer.eval_dataset

    def evaluate() -> None:
        trainer.evaluate(rows, metric_key_prefix="eval_seen")
        asked, trainer.prediction_step = trainer.prediction_step, lambda *_, **__: (torch.tensor(1.5), None, None)
        trainer.evaluate(rows, metric_key_prefix="eval_other")
        trainer.prediction_step = asked

    evaluate()
    finishes(trainer)
    line = "eval loss is flat to 6 decimals: 1.500000 -> 1.500000 (eval_other_loss, 10 steps apart)"
    assert stopped(trainer, evaluate) == ("E803", line, 10)


def test_two_evaluations_without_training_between_them_agree(sft: Make) -> None:
    """Equal losses are no problem then."""
    trainer = sft(TrainingGuard())
    with silence():
        trainer.evaluate()
        trainer.evaluate()
    finishes(trainer)
    with silence():
        trainer.evaluate()
        trainer.evaluate()


def test_warm_up_and_decay_train_too_little_to_judge(sft: Make) -> None:
    """The first step of a warm-up has a learning rate of 0, and the last of a decay almost: both are evaluated."""
    seen = Evaluated()
    trainer = _evaluate_every(sft(TrainingGuard(), seen, warmup_steps=4, lr_scheduler_type="cosine"), 1)
    finishes(trainer)
    assert seen.at == list(range(1, 11))


def test_a_loss_close_to_zero_is_not_judged(sft: Make) -> None:
    """The model memorised its rows."""
    trainer = sft(TrainingGuard())
    _look_up(trainer, 3e-5)
    trainer.evaluate()
    finishes(trainer)
    with silence():
        trainer.evaluate()


def test_a_reloaded_best_model_repeats_its_loss(sft: Make) -> None:
    """By request, the evaluation after the run uses the weights of the first evaluation."""
    trainer = _evaluate_every(sft(TrainingGuard()), 5)
    trainer.args.load_best_model_at_end, trainer.args.metric_for_best_model = True, "eval_loss"
    trainer.args.save_strategy, trainer.args.save_steps = type(trainer.args.logging_strategy)("steps"), 5
    losses = iter([1.0, 2.0, 2.0])
    trainer.prediction_step = lambda *_, **__: (torch.tensor(next(losses)), None, None)
    trainer.args.per_device_eval_batch_size = 16
    finishes(trainer)
    with silence():
        trainer.evaluate()


# ------------------------------------------------------------------------------------------------------------ warning


def test_a_guard_that_may_only_warn_reports_each_code_once(sft: Make) -> None:
    """The run is dead in several ways and continues to its end."""
    trainer = _evaluate_every(sft(TrainingGuard("warn", every=1)), 2)
    _from_step(trainer, 1, torch.zeros_like)
    _look_up(trainer, 3.289622)
    first, second = warned(trainer)
    assert first.startswith("no gradient reaches the weights in steps 1 to 3: ")
    assert second == "eval loss is flat to 6 decimals: 3.289622 -> 3.289622 (eval_loss, 6 steps apart)"


def test_a_guard_that_may_only_warn_says_what_to_do(sft: Make) -> None:
    """The test has the whole message."""
    trainer = sft(TrainingGuard("warn"))
    trainer.model.enable_input_require_grads()
    freeze(adapters(trainer).values())
    with pytest.warns(TrainingWarning, match=re.compile(r"3926.*\n.*Hand the trainer the base model", re.DOTALL)):
        trainer.train()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"on_problem": "log"}, 'on_problem must be "raise" or "warn", not \'log\''),
        ({"every": 0}, "every=0 and patience=3 count steps: both must be 1 or more"),
        ({"patience": 0}, "every=50 and patience=0 count steps: both must be 1 or more"),
    ],
)
def test_an_invalid_option_is_refused(arguments: dict[str, Any], problem: str) -> None:
    """It is refused when the guard is created, not when the run begins."""
    with pytest.raises(ValueError, match=re.escape(problem)):
        TrainingGuard(**arguments)


# --------------------------------------------------------------------------------------------------- what it cannot see


@pytest.fixture
def one_process() -> Iterator[None]:
    """A process group of one process, so that tensors can be distributed."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_a_trainer_that_passes_no_optimizer_is_said_once(sft: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Transformers 4.49.0 forgets it: a guard without a word would look like a healthy run."""
    trainer = sft(TrainingGuard())
    handler = type(trainer.callback_handler)
    monkeypatch.setattr(handler, "call_event", _without_optimizer(handler.call_event))
    line = "callbacks get no optimizer, as from Transformers 4.49.0: nothing is checked"
    assert warned(trainer) == [line]


def _without_optimizer(call_event: Any) -> Any:
    def called(self: Any, *args: Any, **given: Any) -> Any:
        self.optimizer = None
        return call_event(self, *args, **given)

    return called


@pytest.mark.usefixtures("one_process")
def test_shards_are_known_by_their_owner(sft: Make) -> None:
    """Accelerate trains with shards, or a parameter is itself distributed."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import distribute_tensor

    def owner(model: nn.Module, kind: DistributedType) -> str | None:
        return guard_module.owner_of_shards(
            model, SimpleNamespace(accelerator_state=SimpleNamespace(distributed_type=kind))
        )

    model = nn.Linear(2, 2)
    assert owner(model, DistributedType.NO) is owner(model, DistributedType.MULTI_GPU) is None
    assert owner(model, DistributedType.FSDP) == "FSDP"
    assert owner(model, DistributedType.DEEPSPEED) == "DEEPSPEED"
    model.weight = nn.Parameter(distribute_tensor(model.weight.detach(), init_device_mesh("cpu", (1,))))
    assert owner(model, DistributedType.NO) == "DTensor"


def test_shards_that_are_empty_here_are_trainable(sft: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """DeepSpeed's third stage leaves a parameter empty until it is gathered."""
    monkeypatch.setattr(guard_module, "owner_of_shards", lambda model, optimizer: "DEEPSPEED")
    trainer = sft()
    for parameter in trainer.model.parameters():
        parameter.data = parameter.data.new_empty(0)
    given = {"model": trainer.model, "optimizer": object()}
    with pytest.warns(TrainingWarning, match="holds the parameters in shards"):
        TrainingGuard().on_train_begin(trainer.args, trainer.state, trainer.control, **given)


def test_what_shards_hide_is_reported_once_and_not_judged(sft: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zero gradients and an incomplete optimizer are not judged. Frozen adapters and masked labels are."""
    monkeypatch.setattr(guard_module, "owner_of_shards", lambda model, optimizer: "DEEPSPEED")
    line = (
        "DEEPSPEED holds the parameters in shards: the optimizer, gradients and changes of weights are not checked in "
        "this run"
    )
    half = sft(TrainingGuard())
    _optimizer_of(half, list(adapters(half).values())[::2])
    _from_step(half, 1, torch.zeros_like)
    assert warned(half) == [line]
    frozen = sft(TrainingGuard())
    freeze(adapters(frozen).values())
    assert stopped(frozen)[0] == "C104"


def test_a_compiled_model_has_no_hooks_and_a_warning(sft: Make) -> None:
    """Labels cannot be seen; gradients can."""
    trainer = sft(TrainingGuard())
    trainer.args.torch_compile = True  # only the guard reads it: nothing is compiled here
    assert warned(trainer) == ["the labels of a compiled model cannot be read: they are not checked in this run"]
