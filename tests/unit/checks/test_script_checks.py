"""The judge of users' scripts: a script is compared with what it requests itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import builders
import pytest
from finetune_compat.checks.script_checks import called_by_the_script, judge, judge_run
from finetune_compat.contract.records import (
    Actor,
    Area,
    AreaCount,
    Failure,
    Frame,
    Freeze,
    Gradients,
    Labels,
    Optimizer,
    Stage,
)
from finetune_compat.contract.script import Run, UnknownArgument
from finetune_compat.contract.verdict import Outcome, Result, Symptom
from pipelines import NF4, frozen, pipeline, run, training, with_adapters, without_training


def message_of(made: Run, code: str) -> tuple[Result, str]:
    """Return the message of one check."""
    (opinion,) = [one for one in judge_run(made).opinions if one.code == code]
    return opinion.result, opinion.message


def test_what_trains_is_healthy() -> None:
    verdict = judge_run(run())
    assert (verdict.outcome, verdict.failing) == (Outcome.PASS, ())
    assert verdict.reason == "16,384 parameters train"


def test_frozen_adapters_are_one_root_with_the_line_that_froze() -> None:
    """Optimizer, gradients, weights and loss follow from it and have no message."""
    verdict = judge_run(frozen())
    assert (verdict.outcome, verdict.failing, verdict.symptom) == (Outcome.FAIL, ("C104",), Symptom.FLAT)
    assert verdict.reason.startswith(
        "C104 0 of 16,384 adapter parameters are trainable at trainer; frozen by finetune_compat/cell/flows/"
    )
    assert "peft/utils/other.py" in verdict.reason


def test_a_script_that_freezes_its_own_adapter_fails_at_peft() -> None:
    """PeftModel.from_pretrained without is_trainable does this."""
    seen = builders.at_stage(run().seen, Stage.PEFT, by_area=frozen().seen.census(Stage.TRAINER).by_area)  # type: ignore[union-attr]
    assert judge_run(run(seen)).failing == ("C103",)


def test_a_peft_config_that_left_no_adapter_is_a_fault() -> None:
    """The trainer ignored it; the whole model trains, which was not requested."""
    seen = builders.healthy("sft-full", dataclasses.replace(NF4, precision=builders.Precision.FULL))
    assert judge_run(run(seen)).failing == ("C104",)
    assert judge_run(run(seen, asks_for_adapters=False)).outcome is Outcome.PASS


def test_half_of_the_adapters_lost_in_the_trainer_are_missed() -> None:
    seen = run().seen
    census = seen.census(Stage.TRAINER)
    assert census is not None
    half = {area: dataclasses.replace(count, trainable=count.trainable // 2) for area, count in census.by_area.items()}
    result, message = message_of(run(builders.at_stage(seen, Stage.TRAINER, by_area=half, trainable=8192)), "C104")
    assert (result, message) == (Result.FAIL, "8,192 adapter parameters are trainable at trainer, 16,384 were at peft")


def test_an_optimizer_that_misses_some_is_a_fault_and_one_that_holds_more_is_none() -> None:
    assert judge_run(training(run(), optimizer=Optimizer(8192, 8192, 0))).failing == ("O301",)
    assert judge_run(training(run(), optimizer=Optimizer(20_000, 0, 3616))).outcome is Outcome.PASS


def test_idle_tensors_are_no_fault_and_no_gradient_at_all_is_one() -> None:
    """An expert that receives no token is idle in a healthy run."""
    assert message_of(training(run(), gradients=Gradients(28, 2, 1, 0)), "G401")[0] is Result.PASS
    assert message_of(training(run(), gradients=Gradients(28, 28, 0, 0)), "G401")[0] is Result.FAIL
    assert message_of(training(run(), gradients=Gradients(28, 0, 0, 1)), "G401")[0] is Result.FAIL


def test_a_class_that_stands_still_is_a_fault() -> None:
    made = run(builders.stands_still(run().seen, "lora_A"))
    assert judge_run(made).failing == ("W701",)


@pytest.mark.parametrize("code", ["G401", "W701", "E803"])
def test_rewards_that_are_all_equal_teach_nothing_and_are_no_fault(code: str) -> None:
    """In GRPO the gradient is then zero, and so is the loss."""
    made = training(run(rewarded=True), gradients=Gradients(28, 0, 28, 0), subject_delta=0.0, eval_after=0.0)
    assert message_of(made, code)[0] is Result.NOT_APPLICABLE


NAN = float("nan")
ALL_ZERO = Gradients(28, 0, 28, 0)


def rewarded(**changes: object) -> Run:
    """A trainer that learns from rewards, without an evaluation set: its loss is 0 at every step."""
    still = {"loss": (0.0,) * 10, "eval_before": None, "eval_after": None}
    return training(run(rewarded=True, rows_evaluated=None), **still, **changes)


def nothing_happened(**changes: object) -> Run:
    """No gradient arrived, and no bit changed."""
    still = {"gradients": ALL_ZERO, "subject_delta": 0.0, "grad_norm": (0.0,) * 10, "grad_norm_logged": (0.0,) * 10}
    return dataclasses.replace(rewarded(**still), **changes)  # type: ignore[arg-type]  # fields by name


def test_rewards_that_differ_are_healthy_at_a_loss_of_zero() -> None:
    """GRPO has this loss while it learns."""
    verdict = judge_run(rewarded())
    assert verdict.outcome is Outcome.PASS
    assert verdict.reason.startswith("16,384 parameters train")


@pytest.mark.parametrize(
    ("alike", "why"),
    [
        (
            True,
            "all completions of each prompt have the same reward, so no gradient is expected; look at the reward",
        ),
        (
            None,
            "no gradient arrived: all completions of a prompt may have the same reward, and the trainer logs no spread",
        ),
    ],
)
def test_a_run_of_rewards_without_any_change_is_could_not_tell(alike: bool | None, why: str) -> None:
    """The verdict is never that it trains."""
    verdict = judge_run(nothing_happened(rewards_alike=alike))
    assert (verdict.outcome, verdict.failing) == (Outcome.INFRASTRUCTURE, ())
    assert verdict.reason == f"no trained weight changed: {why}"


def test_rewards_that_differ_must_make_a_gradient() -> None:
    """The rewards are those in the trainer's log."""
    verdict = judge_run(nothing_happened(rewards_alike=False))
    assert (verdict.outcome, verdict.failing) == (Outcome.FAIL, ("G401",))
    assert verdict.reason.endswith(", although the rewards differ")


def test_weights_must_change_where_rewards_made_a_gradient() -> None:
    """They may be of any class, and must stay finite."""
    assert judge_run(rewarded(subject_delta=0.0)).failing == ("W701",)
    assert judge_run(rewarded(subject_finite=False)).failing == ("W701",)
    stuck = run(builders.stands_still(rewarded().seen, "lora_A"), rewarded=True, rows_evaluated=None)
    assert judge_run(stuck).failing == ("W701",)


@pytest.mark.parametrize("made", [run, rewarded], ids=["labels", "rewards"])
@pytest.mark.parametrize("value", [NAN, float("inf")])
def test_what_is_logged_must_be_a_number(made: Callable[[], Run], value: float) -> None:
    """This holds at every step, for any objective."""
    for name, code in (("loss", "E807"), ("grad_norm_logged", "G404"), ("grad_norm", "G404")):
        assert judge_run(training(made(), **{name: (*(1.0,) * 9, value)})).failing == (code,)


def test_a_loss_or_a_norm_of_zero_at_every_step_is_a_fault_where_labels_make_the_gradient() -> None:
    """A loss of NaN is logged as 0."""
    assert judge_run(training(run(), loss=(0.0,) * 10)).failing == ("E807",)
    assert judge_run(training(run(), loss=(0.0,))).failing == ("E807",)
    assert judge_run(training(run(), loss=(4.0, 0.0))).outcome is Outcome.PASS
    assert judge_run(training(run(), grad_norm_logged=(0.0,) * 10)).failing == ("G404",)


def test_a_trainer_that_logs_nothing_is_not_judged_by_its_log() -> None:
    """It has fewer steps than its logging interval."""
    made = training(run(), loss=(), grad_norm_logged=())
    assert message_of(made, "E807") == (Result.NOT_APPLICABLE, "the trainer logged no training loss")
    assert judge_run(made).outcome is Outcome.PASS


RISING = (4.16, 5.97, 382.6, 315.3, 246.8, 105.5, 143.8, 168.7, 178.8, 312.0)
"""Train losses with a learning rate of 2."""

FALLING = tuple(4.1 - 0.4 * step for step in range(10))


@pytest.mark.parametrize(
    ("before", "after", "losses", "diverged"),
    [
        (4.18, 208.0, RISING, True),
        (4.18, 208.0, (), True),
        (4.18, 208.0, (150.0,), True),  # a mean over all steps
        (4.18, 8.5, (4.2, 8.4), True),
        (4.18, 8.3, RISING, False),  # less than twice
        (4.18, 4.6, (4.2, 4.9, 4.7), False),  # a bump of warm-up
        (0.02, 0.09, (0.02, 0.05), False),  # memorised: it doubles by chance
        (1.0, 4.0, FALLING, False),  # overfits: train loss falls
        (2.0, 5.0, (1.2,), False),
        (4.18, 3.9, RISING, False),
    ],
)
def test_an_eval_loss_that_ends_far_above_where_it_began_has_diverged(
    before: float, after: float, losses: tuple[float, ...], *, diverged: bool
) -> None:
    """It is more than twice and a nat above, unless train loss falls."""
    verdict = judge_run(training(run(), eval_before=before, eval_after=after, loss=losses))
    assert verdict.failing == (("E808",) if diverged else ())
    assert not diverged or verdict.reason == f"E808 eval loss diverges: {before:.4f} -> {after:.4f}"


@pytest.mark.parametrize(
    ("losses", "result"),
    [
        (RISING, Result.FAIL),
        (FALLING, Result.PASS),
        ((0.4, 1.6, 0.9, 1.7, 0.5, 1.5), Result.PASS),  # one row in each step: some are harder
        ((4.2, 9.0, 9.0), Result.NOT_APPLICABLE),
        ((-1.0, 9.0, 9.0, 9.0), Result.NOT_APPLICABLE),
    ],
)
def test_without_an_evaluation_train_loss_must_not_end_far_above_where_it_began(
    losses: tuple[float, ...], result: Result
) -> None:
    """Every step of the second half counts."""
    made = training(run(rows_evaluated=None), eval_before=None, eval_after=None, loss=losses)
    assert message_of(made, "E808")[0] is result


def one_step(rates: tuple[float, ...], **changes: object) -> Run:
    """The first steps of a LoRA, at these learning rates: lora_B is zero until a rate is above zero."""
    made = training(run(), learning_rate=rates, grad_norm=(1.0,) * len(rates), steps=len(rates), **changes)
    assert made.seen.training is not None
    held = dataclasses.replace(made.seen.training.classes["lora_A"], reached=None, unchanged=14, largest_change=0.0)
    return training(made, classes={**made.seen.training.classes, "lora_A": held}, gradients=Gradients(28, 0, 14, 0))


@pytest.mark.parametrize("rates", [(2e-4,), (0.0, 2e-4)], ids=["one step", "two with warm-up"])
def test_lora_a_need_not_move_before_it_can(rates: tuple[float, ...]) -> None:
    """Its gradient is zero while lora_B is."""
    verdict = judge_run(one_step(rates))
    assert verdict.outcome is Outcome.PASS
    assert verdict.reason == "trained weights change; too few steps to show whether lora_A changes, ask for more"
    assert judge_run(one_step((1e-4, 2e-4))).failing == ("W701",)


def test_a_lora_a_that_had_a_gradient_must_move_in_the_first_step() -> None:
    """Its lora_B was trained before."""
    made = one_step((2e-4,))
    assert made.seen.training is not None
    reached = dataclasses.replace(made.seen.training.classes["lora_A"], reached=1)
    classes = {**made.seen.training.classes, "lora_A": reached}
    assert judge_run(training(made, classes=classes)).failing == ("W701",)


def test_the_first_step_of_warm_up_alone_says_nothing() -> None:
    """Its learning rate is 0. Ten such steps are a fault."""
    verdict = judge_run(one_step((0.0,), subject_delta=0.0))
    assert verdict.outcome is Outcome.INFRASTRUCTURE
    assert verdict.reason == (
        "no trained weight changed: the only step has a learning rate of 0, as warm-up begins; ask for more steps"
    )
    assert judge_run(one_step((0.0,) * 10, subject_delta=0.0)).failing == ("W701",)


def test_a_flat_eval_loss_is_a_fault_but_not_in_warm_up() -> None:
    flat = training(run(), eval_before=3.0, eval_after=3.0000001, learning_rate=(1e-2,) * 10)
    assert message_of(flat, "E803") == (Result.FAIL, "eval loss is flat to 6 decimals: 3.000000 -> 3.000000")
    warming = training(flat, learning_rate=tuple(1e-5 * step for step in range(10)))
    result, why = message_of(warming, "E803")
    assert result is Result.NOT_APPLICABLE
    assert why == "warm-up: the steps equal 0.0 steps at the full learning rate; ask for more"


def test_without_an_evaluation_set_the_verdict_says_so() -> None:
    verdict = judge_run(training(run(rows_evaluated=None), eval_before=None, eval_after=None))
    assert verdict.outcome is Outcome.PASS
    assert verdict.reason == "16,384 parameters train; without an evaluation set, learning cannot be checked"


def test_an_evaluation_that_reports_nothing_is_a_fault() -> None:
    assert judge_run(training(run(), eval_before=None, eval_after=None)).failing == ("E801",)


def test_rows_without_labels_are_a_fault_where_all_are() -> None:
    labels = Labels(80, 0, 80, "", "")
    seen = dataclasses.replace(run().seen, labels=labels)
    assert message_of(run(seen), "L501")[0] is Result.FAIL
    assert (
        message_of(run(dataclasses.replace(seen, labels=dataclasses.replace(labels, all_masked=79))), "L501")[0]
        is Result.PASS
    )


def test_what_did_not_train_is_not_healthy() -> None:
    verdict = judge_run(without_training(run()))
    assert (verdict.outcome, verdict.reason) == (Outcome.INFRASTRUCTURE, "no training was seen")


@pytest.mark.parametrize(
    "message",
    [
        "CUDA out of memory",
        "Torch not compiled with CUDA enabled",
        "fp16 mixed precision requires a GPU",
        "Your setup doesn't support bf16/gpu. You need to assign use_cpu if you want to train the model on CPU.",
        "Your setup doesn't support bf16/gpu. You need torch>=1.10, using Ampere GPU with cuda>=11.0",
        "--tf32 requires Ampere or a newer GPU arch, cuda>=11 and torch>=1.7",
        "bf16 mixed precision requires PyTorch >= 1.10 and a supported device.",
        "FP16 Mixed precision training with AMP or APEX (`--fp16`) can only be used on CUDA or MLU devices",
        "No GPU or XPU found. A GPU or XPU is needed for FP8 quantization.",
        "The installed version of bitsandbytes (<0.43.1) requires CUDA, but CUDA is not available.",
        "CUDA is required but not available for bitsandbytes.",
        "None of the available devices `available_devices = ('cuda', 'xpu')` are supported by the bitsandbytes version",
        "Attempting to deserialize object on a CUDA device but torch.cuda.is_available() is False.",
        "GPU is required to run AWQ quantized model.",
        "0 active drivers ([]). There should only be one.",
        "Cannot access accelerator device when none is available.",
        "Could not run 'aten::empty.memory_format' with arguments from the 'CUDA' backend.",
        "Unsloth cannot find any torch accelerator? You need a GPU.",
    ],
)
def test_what_this_machine_lacks_is_no_fault_of_the_script(message: str) -> None:
    seen = dataclasses.replace(run().seen, error=Failure("RuntimeError", message, Stage.TRAINING, ()))
    assert judge_run(run(seen)).outcome is Outcome.INFRASTRUCTURE


def test_an_error_in_training_is_a_fault() -> None:
    seen = dataclasses.replace(without_training(run()).seen, error=Failure("ValueError", "no", Stage.TRAINING, ()))
    assert judge_run(run(seen)).failing == ("F001",)


def test_a_trainer_that_replaces_the_adapter_is_told() -> None:
    assert judge_run(run(builders.adapter_replaced(run().seen))).failing == ("A201",)


def test_an_adapter_the_trainer_makes_is_not_compared() -> None:
    seen = run().seen
    stages = tuple(
        dataclasses.replace(taken, by=Actor.LIBRARY) if taken.name is Stage.PEFT else taken for taken in seen.stages
    )
    assert message_of(run(dataclasses.replace(seen, stages=stages)), "A201")[0] is Result.NOT_APPLICABLE


ONE = (("default",), 16_384, 16_384, "one")


def test_an_adapter_that_the_trainer_adds_is_its_own() -> None:
    """DPO, KTO and GRPO of TRL add a frozen copy of the adapter that they train."""
    made = with_adapters(run(), peft=ONE, handed=ONE, trainer=ONE)
    assert judge_run(made).outcome is Outcome.PASS


def test_what_the_script_makes_active_is_what_counts() -> None:
    """A frozen adapter was loaded; another one, smaller or larger, was added and trains."""
    task = (("task",), 1792, 1792, "task")
    for loaded in ((("sft",), 0, 1792, "sft"), (("sft",), 16_384, 16_384, "sft")):
        made = with_adapters(run(), peft=loaded, handed=task, trainer=task)
        assert judge_run(made).outcome is Outcome.PASS
    lost = with_adapters(run(), peft=loaded, handed=task, trainer=(("task",), 896, 1792, "task"))
    assert message_of(lost, "C104") == (
        Result.FAIL,
        "896 adapter parameters are trainable at trainer, 1,792 were when passed to the trainer",
    )


def test_an_adapter_that_was_never_trainable_fails_at_peft() -> None:
    """The first one was trainable; the script then activates a frozen one."""
    frozen_one = (("sft",), 0, 1792, "sft")
    made = with_adapters(run(), peft=ONE, handed=frozen_one, trainer=frozen_one)
    verdict = judge_run(made)
    assert verdict.failing == ("C103",)
    assert ("C104", Result.BLOCKED) in [(one.code, one.result) for one in verdict.opinions]


def test_values_the_script_gives_its_adapter_are_no_replacement() -> None:
    """They come from set_peft_model_state_dict or from an earlier training."""
    other = (("default",), 16_384, 16_384, "two")
    assert judge_run(with_adapters(run(), peft=ONE, handed=other, trainer=other)).outcome is Outcome.PASS
    assert judge_run(with_adapters(run(), peft=ONE, handed=other, trainer=ONE)).failing == ("A201",)


def test_an_adapter_frozen_before_it_is_handed_over_is_one_fault() -> None:
    """In PEFT 0.18 to 0.20, loading a second adapter freezes the first, which wrapping had left trainable."""
    gone = (("default",), 0, 16_384, "one")
    assert judge_run(with_adapters(frozen(), peft=ONE, handed=gone, trainer=gone)).failing == ("C104",)


def test_a_trainer_that_activates_another_adapter_fails() -> None:
    """A copy of the adapter counts as another one."""
    made = with_adapters(run(), peft=ONE, handed=ONE, trainer=(("ref",), 16_384, 16_384, "one"))
    assert message_of(made, "A201") == (
        Result.FAIL,
        "the trainer trains another adapter than the one passed to it: 'ref' instead of 'default'",
    )


@pytest.mark.parametrize("changes", [{"handed": None}, {"trainer": None}])
def test_what_was_not_handed_to_a_trainer_is_not_compared(changes: dict[str, None]) -> None:
    """Fields that an older record lacks are not compared either."""
    made = run(builders.adapter_replaced(run().seen), **changes)
    assert message_of(made, "A201")[0] is Result.NOT_APPLICABLE


def test_a_script_in_which_nothing_was_seen_could_not_be_told() -> None:
    (verdict,) = judge(pipeline(error=Failure("ImportError", "no trl", Stage.IMPORT, ())))
    assert (verdict.outcome, verdict.reason) == (
        Outcome.INFRASTRUCTURE,
        "nothing was seen: ImportError at import: no trl",
    )
    (verdict,) = judge(pipeline())
    assert verdict.reason == "nothing was seen: no model of Transformers was loaded"


@pytest.mark.parametrize(
    ("module", "todo"),
    [
        (
            "torchvision.io",
            "Install the torchvision of this build of torch: the wheels of the package index need a CUDA",
        ),
        ("wandb", "A gate installs what the project's file names; `compat watch --with PACKAGE` adds a package"),
    ],
)
def test_a_module_that_the_environment_lacks(module: str, todo: str) -> None:
    """The answer says what to do."""
    error = Failure("ModuleNotFoundError", f"No module named '{module}'", Stage.IMPORT, ())
    (verdict,) = judge(pipeline(error=error))
    assert verdict.outcome is Outcome.INFRASTRUCTURE
    assert verdict.reason.startswith(f"nothing was seen: ModuleNotFoundError at import: {error.message}. {todo}")


@pytest.mark.parametrize(
    ("file", "message", "outcome"),
    [
        ("trl/trainer/dpo_trainer.py", "no", Outcome.FAIL),
        ("train.py", "accuracy is below 0.9", Outcome.INFRASTRUCTURE),
        ("transformers/quantizers/quantizer_bnb_4bit.py", "No GPU found. A GPU is needed", Outcome.INFRASTRUCTURE),
        ("transformers/training_args.py", "Your setup doesn't support bf16/gpu.", Outcome.INFRASTRUCTURE),
    ],
)
def test_an_error_after_healthy_training_is_never_a_pass(file: str, message: str, outcome: Outcome) -> None:
    """A library's exception is a fault; a script may also raise one after ten steps."""
    error = Failure("ValueError", message, Stage.TRAINER, (Frame(file, 1, "f", "raise"),))
    first, last = judge(pipeline(run(), error=error, status=1))
    assert (first.outcome, last.outcome) == (Outcome.PASS, outcome)
    assert f"ValueError at trainer: {message}" in last.reason


def test_an_error_its_trainer_has_told_is_told_once() -> None:
    error = Failure("ValueError", "no", Stage.TRAINING, ())
    made = run(dataclasses.replace(without_training(run()).seen, error=error))
    assert len(judge(pipeline(made, error=error, status=1))) == 1


def test_a_signal_is_never_green() -> None:
    *_, last = judge(pipeline(run(), status=-9))
    assert (last.outcome, last.reason) == (
        Outcome.INFRASTRUCTURE,
        "training was healthy, and the script itself ended with signal 9",
    )


OWN_LINE = Frame("train.py", 12, "<module>", "p.requires_grad_(False)")
LOADS = Frame("train.py", 20, "<module>", "model.load_adapter(saved)")
IN_PEFT = Frame("peft/tuners/tuners_utils.py", 1200, "set_requires_grad", "p.requires_grad = False")
TRAINS = (Frame("train.py", 30, "<module>", "trainer.train()"), Frame("transformers/trainer.py", 1600, "train", "f()"))


def with_freezes(made: Run, *freezes: Freeze) -> Run:
    """The same run with these freezes."""
    return dataclasses.replace(made, seen=dataclasses.replace(made.seen, freezes=freezes))


HALF = (("default",), 8192, 16_384, "one")


def half_frozen(*frames: Frame) -> Run:
    """Half of the adapter is frozen after wrapping, by the innermost of `frames`."""
    made = with_adapters(run(), peft=ONE, handed=HALF, trainer=HALF)
    return with_freezes(made, Freeze(Stage.PEFT, 8192, 14, frames))


def test_a_freeze_by_the_scripts_own_line_is_not_judged() -> None:
    """LoRA-FA freezes every lora_A, and others freeze lower layers. A library that does the same is a fault."""
    assert message_of(half_frozen(OWN_LINE), "C104")[0] is Result.PASS
    result, message = message_of(half_frozen(LOADS, IN_PEFT), "C104")
    assert result is Result.FAIL
    assert message == (
        "8,192 adapter parameters are trainable at trainer, 16,384 were at peft; "
        "frozen by train.py:20 -> peft/tuners/tuners_utils.py:1200: p.requires_grad = False"
    )


def test_a_library_that_freezes_more_than_the_script_is_a_fault() -> None:
    """The script freezes half; the trainer freezes a quarter of the rest."""
    made = with_adapters(run(), peft=ONE, handed=HALF, trainer=(("default",), 6144, 16_384, "one"))
    by_trl = Frame("trl/trainer/sft_trainer.py", 694, "__init__", "f()")
    made = with_freezes(
        made, Freeze(Stage.PEFT, 8192, 14, (OWN_LINE,)), Freeze(Stage.TRAINER, 2048, 4, (LOADS, by_trl))
    )
    result, message = message_of(made, "C104")
    assert result is Result.FAIL
    assert "by train.py:20 -> trl/" in message and "train.py:12" not in message


def test_a_script_that_freezes_everything_is_a_fault() -> None:
    made = with_freezes(frozen(), Freeze(Stage.PEFT, 16_384, 28, (OWN_LINE,)))
    assert judge_run(made).failing == ("C104",)


def frozen_in_training(trainable: int, *frames: Frame) -> Run:
    """After step 3 only `trainable` adapter parameters are left."""
    seen = run().seen
    after = seen.census(Stage.AFTER_TRAINING)
    assert after is not None
    areas = {**after.by_area, Area.ADAPTER: AreaCount(trainable, 16_384)}
    seen = builders.at_stage(seen, Stage.AFTER_TRAINING, trainable=trainable, by_area=areas)
    made = with_freezes(run(seen), Freeze(Stage.TRAINING, 16_384 - trainable, 28, (*TRAINS, *frames)))
    return dataclasses.replace(made, frozen_after=3)


def test_a_freeze_in_training_has_its_line_and_its_step() -> None:
    """PEFT 0.18.1 and later freeze a PiSSA adapter that a callback saves."""
    saves = Frame("train.py", 21, "on_step_end", "model.save_pretrained(folder)")
    result, message = message_of(frozen_in_training(0, saves, IN_PEFT), "C105")
    assert result is Result.FAIL
    assert message == (
        "0 parameters are trainable after training, 16,384 were before, from step 4 on; "
        "frozen by train.py:21 -> peft/tuners/tuners_utils.py:1200: p.requires_grad = False"
    )


def test_a_schedule_of_the_script_is_not_judged_while_something_trains() -> None:
    """A callback that freezes a part of the adapter may intend it. One that freezes all of it does not."""
    schedule = Frame("train.py", 9, "on_epoch_begin", "p.requires_grad = False")
    result, why = message_of(frozen_in_training(4096, schedule), "C105")
    assert result is Result.NOT_APPLICABLE
    assert why == (
        "the script itself freezes in training, which is not judged; frozen by train.py:9: p.requires_grad = False"
    )
    assert judge_run(frozen_in_training(4096, schedule)).outcome is Outcome.PASS
    assert message_of(frozen_in_training(4096, schedule, IN_PEFT), "C105")[0] is Result.FAIL
    assert message_of(frozen_in_training(0, schedule), "C105")[0] is Result.FAIL


def test_a_schedule_that_closes_all_adapters_and_was_not_seen_to_its_end_is_could_not_tell() -> None:
    """A head still trains. The schedule may open the adapters later, or never."""
    schedule = Frame("train.py", 9, "on_epoch_begin", "p.requires_grad = False")
    made = frozen_in_training(0, schedule)
    made = dataclasses.replace(made, seen=builders.at_stage(made.seen, Stage.AFTER_TRAINING, trainable=64))
    verdict = judge_run(made)
    assert (verdict.outcome, verdict.failing) == (Outcome.INFRASTRUCTURE, ())
    assert verdict.reason == (
        "the script itself freezes all layers in training, and did not open them in these steps; "
        "frozen by train.py:9: p.requires_grad = False"
    )


@pytest.mark.parametrize(
    ("changes", "end"),
    [
        (
            {"label_names": (), "peft_config": "LoraConfig"},
            (
                "; the trainer's label_names are empty, so it takes no column for labels: LoraConfig has no "
                "task_type, and without one PEFT hides the labels of the model's forward"
            ),
        ),
        (
            {"label_names": (), "peft_config": "LoraConfig", "task_type": "CAUSAL_LM"},
            "; the trainer's label_names are empty, so it takes no column for labels",
        ),
        ({"label_names": ("labels",)}, "before and None after training"),
        ({"label_names": None}, "before and None after training"),
    ],
)
def test_a_missing_eval_loss_has_its_cause(changes: dict[str, object], end: str) -> None:
    made = training(dataclasses.replace(run(), **changes), eval_before=None, eval_after=None)  # type: ignore[arg-type]
    result, message = message_of(made, "E801")
    assert result is Result.FAIL
    assert message.endswith(end)


def test_a_resume_that_was_not_tried_is_not_healthy() -> None:
    verdict = judge_run(run(resume_untried="no checkpoint could be saved to resume from"))
    assert (verdict.outcome, verdict.failing) == (Outcome.INFRASTRUCTURE, ())
    assert verdict.reason == (
        "the resume that the script asks for was not tried: no checkpoint could be saved to resume from"
    )
    assert judge_run(dataclasses.replace(frozen(), resume_untried="none")).outcome is Outcome.FAIL


def test_a_resume_that_loses_the_weights_of_its_checkpoint_is_a_fault() -> None:
    assert judge_run(run(resume_resets=True)).failing == ("A206",)


def test_a_resume_that_does_not_load_its_checkpoint() -> None:
    verdict = judge_run(run(resume_unloaded=(21, 28)))
    assert verdict.failing == ("A206",)
    assert "21 of 28 trained tensors do not have the values of the checkpoint" in verdict.reason
    assert judge_run(run(resume_unloaded=(0, 28))).outcome is Outcome.PASS


def test_an_argument_that_the_release_does_not_have_is_a_fault() -> None:
    """Python raises it in the line of the script, before any model is loaded."""
    error = Failure("TypeError", "SFTConfig.__init__() got ...", Stage.IMPORT, (OWN_LINE,))
    accepts = ("output_dir", "max_length", "warmup_steps")
    unknown = tuple(UnknownArgument("trl:SFTConfig", name, accepts) for name in ("max_seq_length", "warmup_ratio"))
    for runs in ((), (without_training(run()),)):
        *_, verdict = judge(pipeline(*runs, error=error, status=1, unknown=unknown))
        assert (verdict.outcome, verdict.failing, verdict.untrained) == (Outcome.FAIL, ("F001",), True)
        assert verdict.reason == (
            "F001 SFTConfig of this trl has no max_seq_length (closest name: max_length), "
            "and no warmup_ratio (closest name: warmup_steps): TypeError at import: SFTConfig.__init__() got ..."
        )


@pytest.mark.parametrize(
    ("frames", "file"),
    [
        ((*TRAINS, LOADS, IN_PEFT), "peft/tuners/tuners_utils.py"),
        ((LOADS, TRAINS[1], IN_PEFT), "transformers/trainer.py"),
        ((*TRAINS, OWN_LINE), ""),
        ((), ""),
    ],
)
def test_the_library_to_blame_is_the_one_that_the_script_called_last(frames: tuple[Frame, ...], file: str) -> None:
    """A callback of the script calls PEFT, inside a trainer of Transformers."""
    assert called_by_the_script(Freeze(Stage.TRAINING, 8, 1, frames)) == file
