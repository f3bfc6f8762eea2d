"""The judge: a cell as declared is a pass, exactly the listed deviation is an xfail, everything else fails."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import builders as b
import deep_builders as d
import pytest
from builders import FLAGSHIP, LISTED, NF4, UNLISTED, frozen, frozen_loud, healthy, issue, on_trl
from finetune_compat.checks import CHECKS, Deviation, Outcome, Result, Symptom, Verdict, judge
from finetune_compat.checks.ledger import Ledger, Measured, Signature
from finetune_compat.contract.catalog import CATALOG, Flow, Subject, flow_named
from finetune_compat.contract.records import (
    CENSUS_STAGES,
    Absence,
    AbsentStage,
    Failure,
    Frame,
    Freeze,
    Memory,
    Observation,
    Precision,
    Stage,
    Variant,
    to_json,
)
from finetune_compat.contract.verdict import Kind
from finetune_compat.results import run_files
from finetune_compat.results.run_files import judge_one
from hypothesis import given
from hypothesis import strategies as st
from opinions import judged

CELLS = [(flow, variant) for flow in CATALOG for variant in flow.variants]
ADAPTED = [(flow, variant) for flow, variant in CELLS if flow.subject is Subject.ADAPTER]
HANDED_OVER = [(flow, variant) for flow, variant in ADAPTED if flow.handed_over]

cells = st.sampled_from(CELLS)
adapted = st.sampled_from(ADAPTED)
handed_over = st.sampled_from(HANDED_OVER)
Cell = tuple[Flow, Variant]
Fault = Callable[[Observation], Observation]

CHAIN = (
    "finetune_compat/cell/flows/sft_peft_model.py:34 -> trl/trainer/sft_trainer.py:694 -> trl/models/utils.py:539 -> "
    "peft/utils/other.py:142: param.requires_grad = False"
)
"""The freezing chain of every case, as it appears in a reason."""

FREEZER = "prepare_model_for_kbit_training"
OTHER = f"peft/utils/other.py::{FREEZER}"

on_any: list[Fault] = [b.masked_labels, b.empty_optimizer, b.zero_learning_rate, b.zero_gradients, b.no_step]


def made(cell: Cell) -> Observation:
    """Make a healthy observation of the cell."""
    flow, variant = cell
    return healthy(flow.name, variant)


# ------------------------------------------------------------------------------------------------------- what is stated


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell[0].name}[{cell[1]}]")
def test_a_cell_that_is_as_stated_passes(cell: Cell) -> None:
    """Every flow and variant passes, with the numbers calculated by hand."""
    verdict = judge_one(made(cell), UNLISTED)
    assert (verdict.outcome, verdict.reason, verdict.symptom) == (Outcome.PASS, "as stated", Symptom.FALLS)


@pytest.mark.parametrize("flow", [flow for flow in CATALOG if flow.refusal], ids=lambda flow: flow.name)
def test_a_refusal_that_names_the_mistake_passes(flow: Flow) -> None:
    """A ValueError of the trainer that explains the mistake is a fair refusal."""
    verdict = judge_one(b.refused(healthy(flow.name, NF4)), UNLISTED)
    assert (verdict.outcome, verdict.refused) == (Outcome.PASS, True)


@pytest.mark.parametrize(
    ("kind", "stage", "message"),
    [
        ("ValueError", Stage.TRAINER, "something else"),
        ("ValueError", Stage.TRAINING, "peft_config"),
        ("TypeError", Stage.TRAINER, "peft_config"),
    ],
)
def test_an_error_that_is_no_refusal_fails(kind: str, stage: Stage, message: str) -> None:
    """It has another type or a later stage, or its message does not name the mistake."""
    seen = b.failed(healthy("sft-peft-model-and-config"), kind, message, stage)
    verdict = judge_one(seen, UNLISTED)
    assert (verdict.outcome, verdict.failing, verdict.refused) == (Outcome.FAIL, ("F001",), False)


def test_the_warning_of_the_reports_is_not_judged() -> None:
    """Healthy runs print `None of the inputs have requires_grad=True` as well."""
    assert judge_one(b.warned(healthy()), UNLISTED).outcome is Outcome.PASS


# ------------------------------------------------------------------------------------------------------- planted faults


@given(st.sampled_from(HANDED_OVER), st.sampled_from([frozen, frozen_loud]))
def test_frozen_adapters_are_named_by_c104_alone(cell: Cell, freeze: Fault) -> None:
    """All consequences of a silent or loud freeze are blocked by it."""
    assert judge_one(freeze(made(cell)), UNLISTED).failing == ("C104",)


@given(cells)
def test_masked_labels_are_named_by_l501_alone(cell: Cell) -> None:
    """The NaN loss and gradients that follow are blocked."""
    assert judge_one(b.masked_labels(made(cell)), UNLISTED).failing == ("L501",)


@given(cells)
def test_an_empty_optimizer_is_named_by_o301_alone(cell: Cell) -> None:
    """The missing learning rate and the unchanged weights are blocked."""
    assert judge_one(b.empty_optimizer(made(cell)), UNLISTED).failing == ("O301",)


@given(cells)
def test_a_zero_learning_rate_is_named_by_r601_alone(cell: Cell) -> None:
    """The unchanged weights are blocked."""
    assert judge_one(b.zero_learning_rate(made(cell)), UNLISTED).failing == ("R601",)


@given(cells)
def test_zero_gradients_are_named_by_g401_alone(cell: Cell) -> None:
    """The unchanged weights are blocked."""
    assert judge_one(b.zero_gradients(made(cell)), UNLISTED).failing == ("G401",)


@given(cells)
def test_a_step_that_does_nothing_is_named_by_w701_alone(cell: Cell) -> None:
    """Optimizer, rate and gradients are correct, and nothing changed."""
    assert judge_one(b.no_step(made(cell)), UNLISTED).failing == ("W701",)


@given(handed_over)
def test_a_replaced_adapter_is_named_by_a201_alone(cell: Cell) -> None:
    """Training succeeded with another adapter."""
    assert judge_one(b.adapter_replaced(made(cell)), UNLISTED).failing == ("A201",)


@given(cells)
def test_a_reload_that_differs_is_named_by_a202_alone(cell: Cell) -> None:
    """The saved adapter is not the trained one."""
    assert judge_one(b.reload_differs(made(cell)), UNLISTED).failing == ("A202",)


@given(cells)
def test_weights_that_move_and_learn_nothing_are_named_by_e802_alone(cell: Cell) -> None:
    """Eval loss rose."""
    verdict = judge_one(b.learns_nothing(made(cell)), UNLISTED)
    assert (verdict.failing, verdict.symptom) == (("E802",), Symptom.RISES)


@given(cells)
def test_a_model_that_outlives_its_flow_is_named_by_m901_alone(cell: Cell) -> None:
    """Everything succeeded, and a global reference holds what was trained."""
    verdict = judge_one(b.kept_alive(made(cell)), UNLISTED)
    assert (verdict.failing, verdict.symptom) == (("M901",), Symptom.FALLS)


@given(st.integers().filter(bool))
def test_memory_is_held_to_its_start_exactly(off: int) -> None:
    """One byte more fails; one byte less means that something from before was replaced."""
    seen = dataclasses.replace(healthy(), memory=Memory(start_bytes=1_000, end_bytes=1_000, peak_bytes=362_752))
    verdict = judge_one(b.kept_alive(seen, off), UNLISTED)
    assert (verdict.outcome, verdict.failing) == (Outcome.FAIL, ("M901",))
    assert verdict.reason == (
        f"not listed: M901 {1_000 + off:,} bytes of tensors are alive after the flow, 1,000 before it (peak 362,752)"
    )


@given(cells)
def test_memory_that_was_not_measured_is_not_judged(cell: Cell) -> None:
    """Older observations keep their verdict."""
    verdict = judge_one(dataclasses.replace(made(cell), memory=None), UNLISTED)
    [said] = [opinion for opinion in verdict.opinions if opinion.code == "M901"]
    assert (verdict.outcome, said.result, said.message) == (
        Outcome.PASS,
        Result.NOT_APPLICABLE,
        "memory was not measured",
    )


@given(cells, st.sampled_from(list(Stage)))
def test_an_unexpected_error_is_named_by_f001_alone(cell: Cell, stage: Stage) -> None:
    """Stages that were not reached do not fail."""
    seen = b.failed(made(cell), "AttributeError", "gone", stage)
    assert judge_one(seen, UNLISTED).failing == ("F001",)


@given(cells, st.sampled_from(CENSUS_STAGES))
def test_a_missing_census_without_a_reason_fails(cell: Cell, stage: Stage) -> None:
    """A missing stage is never assumed, and its absence needs a reason."""
    seen = made(cell)
    gone = tuple(census for census in seen.stages if census.name is not stage)
    excuses = tuple(absent for absent in seen.absent if absent.name is not stage)
    verdict = judge_one(dataclasses.replace(seen, stages=gone, absent=excuses), UNLISTED)
    promised = stage in cell[0].expects
    assert verdict.outcome is (Outcome.FAIL if promised else Outcome.PASS)


@pytest.mark.parametrize("off", [-1, 1])
@given(cells, st.sampled_from(CENSUS_STAGES))
def test_one_parameter_more_or_less_fails(off: int, cell: Cell, stage: Stage) -> None:
    """Counts must equal the closed form."""
    seen = made(cell)
    stages = tuple(dataclasses.replace(c, trainable=c.trainable + off) if c.name is stage else c for c in seen.stages)
    judged = stage in cell[0].expects and seen.census(stage) is not None
    assert judge_one(dataclasses.replace(seen, stages=stages), UNLISTED).outcome is (
        Outcome.FAIL if judged else Outcome.PASS
    )


# --------------------------------------------------------------------------------------------------------- the machine


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("OutOfMemoryError", "CUDA out of memory. Tried to allocate 2.00 GiB"),
        ("MemoryError", ""),
        ("OSError", "[Errno 28] No space left on device"),
        ("OSError", "We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them in the"),
        ("ImportError", "FlashAttention2 has been toggled on, but it cannot be used due to the following error: the"),
        ("RuntimeError", "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    ],
)
@given(cells, st.sampled_from([LISTED, UNLISTED]))
def test_an_exhausted_machine_is_never_a_fault_of_the_versions(
    kind: str, message: str, cell: Cell, ledger: Ledger
) -> None:
    """The outcome is neither a pass nor a failure, listed or not."""
    seen = b.failed(made(cell), kind, message, Stage.TRAINING)
    assert judge_one(seen, ledger).outcome is Outcome.INFRASTRUCTURE


@pytest.mark.parametrize(
    ("seen", "shown"),
    [
        (frozen(healthy(versions=on_trl("0.22.2"))), ("trl#3926",)),
        (frozen_loud(healthy(versions=on_trl("0.22.2"))), ("trl#3926",)),
        (b.adapter_replaced(frozen(healthy(versions=on_trl("0.22.2")))), ("trl#3926",)),
        (frozen(healthy(versions=on_trl("0.22.2")), chain=b.FREEZING_CHAIN[:1]), ()),
        (b.failed(healthy(versions=on_trl("0.22.2")), "TypeError", "no argument", Stage.TRAINER), ()),
        (healthy(versions=on_trl("0.22.2")), ()),
        (frozen(healthy()), ()),
    ],
    ids=["silent", "loud", "another-too", "frozen-by-another-line", "not-reached", "did-not-appear", "not-listed"],
)
def test_an_issue_is_shown_if_its_evidence_is_there(seen: Observation, shown: tuple[str, ...]) -> None:
    """This holds whatever is listed for the cell and whatever else fails."""
    assert judge_one(seen, LISTED).shown == shown


@pytest.mark.parametrize("stage", Stage)
def test_an_error_before_training_leaves_training_unknown(stage: Stage) -> None:
    """From the first step on there is something to judge."""
    before = (Stage.IMPORT, Stage.LOAD, Stage.PREPARE, Stage.PEFT, Stage.TRAINER)
    verdict = judge_one(b.failed(healthy(), "TypeError", "no argument", stage), UNLISTED)
    assert verdict.untrained == (stage in before)
    refused = b.refused(healthy("sft-peft-model-and-config"))
    assert not judge_one(healthy(), UNLISTED).untrained
    assert not judge_one(refused, UNLISTED).untrained


def test_another_os_error_is_a_fault_of_the_versions() -> None:
    """A missing file does not mean an exhausted machine."""
    seen = b.failed(healthy(), "OSError", "model.safetensors not found", Stage.LOAD)
    assert judge_one(seen, UNLISTED).outcome is Outcome.FAIL


# ---------------------------------------------------------------------------------------------------------- the ledger


def test_exactly_the_listed_deviation_is_an_xfail() -> None:
    """Check, frame and caller are as listed."""
    verdict = judge_one(frozen(healthy(versions=on_trl("0.22.2"))), LISTED)
    assert (verdict.outcome, verdict.issues) == (Outcome.XFAIL, ("trl#3926",))
    assert verdict.links == ("https://github.com/huggingface/trl/issues/3926",)


def test_an_unlisted_deviation_fails() -> None:
    """The same freeze appears on a release outside the window."""
    verdict = judge_one(frozen(healthy(versions=on_trl("0.24.0"))), LISTED)
    assert (verdict.outcome, verdict.issues) == (Outcome.FAIL, ())
    assert verdict.reason.startswith("not listed: C104 0 trainable at trainer, expected 16,384 (exactly the adapters)")


def test_a_listed_deviation_that_does_not_appear_fails() -> None:
    """It may be fixed, and then the ledger is wrong."""
    verdict = judge_one(healthy(versions=on_trl("0.22.2")), LISTED)
    assert (verdict.outcome, verdict.issues, verdict.failing) == (Outcome.FAIL, ("trl#3926",), ())


@given(st.sampled_from([*on_any, b.adapter_replaced, b.reload_differs, b.learns_nothing]))
def test_another_deviation_than_the_listed_fails(fault: Fault) -> None:
    """Where C104 is listed, another code fails."""
    verdict = judge_one(fault(healthy(versions=on_trl("0.22.2"))), LISTED)
    assert (verdict.outcome, verdict.issues) == (Outcome.FAIL, ("trl#3926",))


@given(st.sampled_from([b.adapter_replaced, b.reload_differs]))
def test_a_second_deviation_beside_the_listed_fails(fault: Fault) -> None:
    """An xfail hides only what it names."""
    seen = fault(frozen(healthy(versions=on_trl("0.22.2"))))
    assert judge_one(seen, LISTED).outcome is Outcome.FAIL


@pytest.mark.parametrize(
    ("changes", "gap"),
    [
        ({"froze": f"peft/tuners/lora.py::{FREEZER}"}, f"nothing was frozen by peft/tuners/lora.py::{FREEZER}"),
        ({"froze": "peft/utils/other.py::freeze"}, "nothing was frozen by peft/utils/other.py::freeze"),
        (
            {"froze": f"trl/trainer/dpo_trainer.py::prepare_peft_model -> {OTHER}"},
            f"nothing was frozen by trl/trainer/dpo_trainer.py::prepare_peft_model -> {OTHER}",
        ),
        # Further up the chain is not the caller: later releases keep the old file there.
        (
            {"froze": f"trl/trainer/sft_trainer.py::__init__ -> {OTHER}"},
            f"nothing was frozen by trl/trainer/sft_trainer.py::__init__ -> {OTHER}",
        ),
    ],
)
def test_a_listed_deviation_with_other_evidence_fails(changes: dict[str, object], gap: str) -> None:
    """The right check for another reason is another bug."""
    ledger = Ledger(issues=(issue(dataclasses.replace(FLAGSHIP, **changes)),))  # type: ignore[arg-type]  # fields by name
    verdict = judge_one(frozen(healthy(versions=on_trl("0.22.2"))), ledger)
    assert verdict.outcome is Outcome.FAIL
    evidence = f"{gap} (seen: {CHAIN})"
    assert verdict.reason.startswith(
        f"fails as listed for trl#3926, with other evidence: {evidence}. C104 0 trainable "
    )


NO_GRAD = "RuntimeError: element 0 of tensors does not require grad"
RAISED = "raised by transformers/trainer.py::training_step"
LOUD = f"RuntimeError: {b.NO_GRAD} at training, {RAISED}"
LISTED_LOUD, SILENT = f"{NO_GRAD!r} at training, {RAISED}", "an eval loss that stays flat"


@pytest.mark.parametrize(
    ("error", "symptom", "freeze", "gap"),
    [
        (NO_GRAD, Symptom.FLAT, frozen, None),
        (NO_GRAD, Symptom.FLAT, frozen_loud, None),
        (NO_GRAD, None, frozen, f"expected {LISTED_LOUD}, seen: {SILENT}"),
        (NO_GRAD, None, frozen_loud, None),
        (None, Symptom.FLAT, frozen, None),
        (None, Symptom.FLAT, frozen_loud, f"expected {SILENT}, seen: {LOUD}"),
        (None, None, frozen, None),
        (None, None, frozen_loud, f"expected no error, seen: {LOUD}"),
        ("other", Symptom.FLAT, frozen_loud, f"expected 'other' at training, {RAISED} or {SILENT}, seen: {LOUD}"),
        (
            NO_GRAD,
            Symptom.RISES,
            frozen,
            f"expected {LISTED_LOUD} or an eval loss that rises, seen: {SILENT}",
        ),
        (b.NO_GRAD, None, frozen_loud, f"expected {b.NO_GRAD!r} at training, {RAISED}, seen: {LOUD}"),
    ],
)
def test_a_deviation_shows_one_of_its_listed_forms(
    error: str | None, symptom: Symptom | None, freeze: Fault, gap: str | None
) -> None:
    """`error` alone is loud, `symptom` alone silent, both are either, neither is silent with any loss."""
    raised = {} if error else {"raised": None, "stage": None}
    ledger = Ledger(issues=(issue(dataclasses.replace(FLAGSHIP, error=error, symptom=symptom, **raised)),))
    verdict = judge_one(freeze(healthy(versions=on_trl("0.22.2"))), ledger)
    if gap is None:
        assert verdict.outcome is Outcome.XFAIL
        assert verdict.reason.startswith("trl#3926: C104 0 trainable at trainer, ")
    else:
        assert verdict.outcome is Outcome.FAIL
        assert verdict.reason.startswith(f"fails as listed for trl#3926, with other evidence: {gap}. C104 ")


def also(check: str, **evidence: object) -> Ledger:
    """The ledger entry of trl#3926, and another issue for the same cells."""
    nothing = dict.fromkeys(("froze", "error", "raised", "stage", "symptom"))
    bare = dataclasses.replace(FLAGSHIP, check=check, **nothing)
    other = dataclasses.replace(bare, **evidence)  # type: ignore[arg-type]  # fields by name
    return Ledger(issues=(issue(), issue(other, name="other")))


@pytest.mark.parametrize(
    ("second", "fault", "outcome"),
    [
        # Both apply, and the observed form is listed for both, or not for the second.
        (also("A201", symptom=Symptom.FLAT), b.adapter_replaced, Outcome.XFAIL),
        (also("A201", symptom=Symptom.FALLS), b.adapter_replaced, Outcome.FAIL),
        # The second did not appear, and nothing blocks it.
        (also("A201", symptom=Symptom.FLAT), lambda seen: seen, Outcome.FAIL),
        # The same check twice: windows that overlap by mistake.
        (also("C104", symptom=Symptom.FLAT), lambda seen: seen, Outcome.XFAIL),
        (also("C104", symptom=Symptom.RISES), lambda seen: seen, Outcome.FAIL),
        (also("C104", symptom=Symptom.FLAT, froze="trl/elsewhere.py::freeze"), lambda seen: seen, Outcome.FAIL),
        # F001 is blocked by the freeze: only its own form shows that it is there.
        (
            also("F001", error=NO_GRAD),
            lambda seen: b.failed(seen, "RuntimeError", b.NO_GRAD, Stage.TRAINING),
            Outcome.XFAIL,
        ),
        (
            also("F001", error="RuntimeError: other"),
            lambda seen: b.failed(seen, "RuntimeError", "other", Stage.TRAINING),
            Outcome.XFAIL,
        ),
        (
            also("F001", error="RuntimeError: other"),
            lambda seen: b.failed(seen, "RuntimeError", b.NO_GRAD, Stage.TRAINING),
            Outcome.FAIL,
        ),
        (also("F001", error="RuntimeError: other"), lambda seen: seen, Outcome.FAIL),
        # No entry has the observed form.
        (
            also("A201", symptom=Symptom.FLAT),
            lambda seen: b.failed(b.adapter_replaced(seen), "KeyError", "x", Stage.TRAINING),
            Outcome.FAIL,
        ),
    ],
)
def test_two_listed_deviations_must_both_agree_with_the_observation(
    second: Ledger, fault: Fault, outcome: Outcome
) -> None:
    """Each one that is not blocked must fail its check, and the observed form must be listed for it."""
    verdict = judge_one(fault(frozen(healthy(versions=on_trl("0.22.2")))), second)
    assert (verdict.outcome, verdict.issues) == (outcome, ("trl#3926", "other"))


MEASURED = Measured(quick={"sft-peft-model": {"trl": "0.22.0"}}, deep={})
UNTIL = dataclasses.replace(LISTED, measured=MEASURED)


def test_a_deviation_on_a_release_that_was_not_measured_is_no_xfail() -> None:
    """It looks like the issue, and nobody has measured that it is."""
    verdict = judge_one(frozen(healthy(versions=on_trl("0.22.2"))), UNTIL)
    assert (verdict.outcome, verdict.issues, verdict.kind) == (Outcome.FAIL, ("trl#3926",), Kind.UPSTREAM)
    assert verdict.unmeasured == "trl 0.22.2, measured until 0.22.0"
    assert verdict.reason.startswith("looks like trl#3926: C104 0 trainable")
    assert verdict.reason.endswith("not yet measured on this release (trl 0.22.2, measured until 0.22.0)")
    assert judge_one(frozen(healthy(versions=on_trl("0.22.0"))), UNTIL).outcome is Outcome.XFAIL


def test_a_healthy_cell_on_a_release_that_was_not_measured_passes() -> None:
    """An entry claims nothing about a later release, so nothing is missing."""
    verdict = judge_one(healthy(versions=on_trl("0.22.2")), UNTIL)
    assert (verdict.outcome, verdict.reason, verdict.issues) == (Outcome.PASS, "as stated", ())


@given(st.sampled_from([*on_any, b.adapter_replaced, b.reload_differs]))
def test_another_deviation_on_a_release_that_was_not_measured_is_not_listed(fault: Fault) -> None:
    """It does not look like the issue."""
    verdict = judge_one(fault(healthy(versions=on_trl("0.22.2"))), UNTIL)
    assert (verdict.outcome, verdict.issues, verdict.unmeasured) == (Outcome.FAIL, (), "")
    assert verdict.reason.startswith("not listed: ")


def test_the_kind_of_a_cell_is_the_most_serious_of_its_issues() -> None:
    """A bug of a release is not hidden behind a trap."""
    trap = dataclasses.replace(issue(name="trap"), kind=Kind.TRAP)
    seen = frozen(healthy(versions=on_trl("0.22.2")))
    kinds = [judge_one(seen, Ledger(issues=found)).kind for found in ((trap,), (trap, issue()), ())]
    assert kinds == [Kind.TRAP, Kind.UPSTREAM, None]


def test_a_deviation_of_some_devices_is_listed_for_those_alone() -> None:
    """On a CPU without the feature the same observation is unlisted."""
    ledger = Ledger(issues=(issue(dataclasses.replace(FLAGSHIP, feature="avx512_bf16")),))
    seen = frozen(healthy(versions=on_trl("0.22.2"), features=("avx512_bf16",)))
    plain = frozen(healthy(versions=on_trl("0.22.2")))
    assert [judge_one(each, ledger).outcome for each in (seen, plain)] == [Outcome.XFAIL, Outcome.FAIL]


RELEASES = ("0.9.6", "0.10.1", "0.19.1", "0.20.0", "0.21.0", "0.22.0", "0.22.2", "0.23.0", "0.23.1", "0.24.0", "1.0.0")


def verdicts(bad: range, listed: range) -> list[Verdict]:
    """The releases `bad` freeze; the ledger lists the releases `listed`."""
    window = f">={RELEASES[listed.start]},<={RELEASES[listed.stop - 1]}"
    ledger = Ledger(issues=(issue(dataclasses.replace(FLAGSHIP, windows={"trl": window})),))
    worlds = [healthy(versions=on_trl(release)) for release in RELEASES]
    return [judge_one(frozen(seen) if i in bad else seen, ledger) for i, seen in enumerate(worlds)]


@given(st.integers(1, len(RELEASES) - 3), st.integers(2, 6))
def test_a_window_shifted_by_one_release_either_way_fails_there(start: int, length: int) -> None:
    """The right window passes everywhere; moving either edge by one release fails on exactly that release."""
    stop = min(start + length, len(RELEASES) - 1)
    bad = range(start, stop)
    assert {v.outcome for v in verdicts(bad, bad)} == {Outcome.PASS, Outcome.XFAIL}
    shifted = {
        start - 1: range(start - 1, stop),
        start: range(start + 1, stop),
        stop: range(start, stop + 1),
        stop - 1: range(start, stop - 1),
    }
    for release, listed in shifted.items():
        if listed:
            failed = [i for i, verdict in enumerate(verdicts(bad, listed)) if verdict.outcome is Outcome.FAIL]
            assert failed == [release]


# ---------------------------------------------------------------------------------------------- whatever is observed

stories: list[Fault] = [
    frozen,
    frozen_loud,
    *on_any,
    b.reload_differs,
    b.learns_nothing,
    b.warned,
    lambda seen: seen,
]
errors = st.builds(
    Failure,
    st.sampled_from(["ValueError", "RuntimeError", "AttributeError", "KeyError", "OutOfMemoryError"]),
    st.sampled_from(["peft_config", "inference_mode", "trainable", b.NO_GRAD, ""]),
    st.sampled_from(list(Stage)),
    st.just(()),
)


@st.composite
def anything(draw: st.DrawFn) -> Observation:
    """A case with numbers, an error and missing fields that need not fit it."""
    flow, variant = draw(cells)
    seen = healthy(flow.name, variant)
    if flow.handed_over:
        seen = draw(st.sampled_from(stories))(seen)
    stages = tuple(census for census in seen.stages if draw(st.integers(0, 9)))
    excused = st.sampled_from([*Absence, None])
    missing = {stage: draw(excused) for stage in CENSUS_STAGES if stage not in {census.name for census in stages}}
    training = seen.training
    if training is not None:
        losses = st.none() | st.floats()
        training = dataclasses.replace(training, eval_before=draw(losses), eval_after=draw(losses))
    return dataclasses.replace(
        seen,
        stages=stages,
        absent=tuple(AbsentStage(stage, reason) for stage, reason in missing.items() if reason),
        training=draw(st.sampled_from([training, None])),
        error=draw(st.none() | errors),
    )


@given(anything(), st.sampled_from([LISTED, UNLISTED]))
def test_an_error_is_never_a_pass_unless_it_refuses(seen: Observation, ledger: Ledger) -> None:
    """This holds however healthy the other fields are."""
    verdict = judge_one(seen, ledger)
    if seen.error is not None and not verdict.refused:
        assert verdict.outcome is not Outcome.PASS


@given(anything(), st.sampled_from([LISTED, UNLISTED]))
def test_judging_is_a_function_of_what_is_stored(seen: Observation, ledger: Ledger) -> None:
    """Judging twice gives the same verdict, and so does judging after a round trip through the file."""
    verdict = judge_one(seen, ledger)
    assert judge_one(seen, ledger) == verdict
    back = run_files._decode(to_json(seen), "observations.jsonl:1")
    assert isinstance(back, Observation)
    assert judge_one(back, ledger) == verdict


@given(anything())
def test_every_check_has_a_message_and_blocked_checks_name_a_failure(seen: Observation) -> None:
    """Opinions are in the order of the checks; each blocked check leads to a check that failed."""
    opinions = judge_one(seen, UNLISTED).opinions
    if opinions:
        assert [opinion.code for opinion in opinions] == [check.code for check in CHECKS]
    results_by_code = {opinion.code: opinion.result for opinion in opinions}
    for opinion in opinions:
        if opinion.result is Result.BLOCKED:
            blockers = opinion.message.split(", ")
            assert {results_by_code[code] for code in blockers} <= {Result.FAIL, Result.BLOCKED}


@given(anything(), st.sampled_from([LISTED, UNLISTED]))
def test_a_pass_has_no_failing_check_and_a_failure_has_a_reason(seen: Observation, ledger: Ledger) -> None:
    """Outcome, opinions and issues agree."""
    verdict = judge_one(seen, ledger)
    if verdict.outcome is Outcome.PASS:
        assert not verdict.failing
        assert not verdict.issues
    if verdict.outcome is Outcome.XFAIL:
        assert verdict.failing
        assert verdict.issues
    if verdict.outcome is Outcome.FAIL:
        assert verdict.failing or verdict.issues


def test_a_deviation_of_a_check_that_cells_do_not_have_is_not_demanded_of_them() -> None:
    """Only scripts have E803; a cell can neither show nor lack it."""
    listed = Deviation(issue="x#1", title="", link="", kind=Kind.UPSTREAM, check="E803", symptom=Symptom.FLAT)
    verdict = judge(healthy(), flow_named(healthy().flow), [listed])
    assert (verdict.outcome, verdict.issues) == (Outcome.PASS, ())


# ---------------------------------------------------------------------------------- what the judge must not let through


def test_an_unrelated_crash_after_a_listed_freeze_fails() -> None:
    """The signature of a freeze does not excuse a later error."""
    crash = b.failed(frozen(healthy(versions=on_trl("0.22.2"))), "AttributeError", "unrelated", Stage.TRAINING)
    verdict = judge_one(crash, LISTED)
    assert verdict.outcome is Outcome.FAIL
    assert "F001 AttributeError at training: unrelated" in verdict.reason


def test_frame_and_caller_must_be_of_one_chain() -> None:
    """Two harmless chains do not make the listed one."""
    seen = frozen(healthy(versions=on_trl("0.22.2")))
    elsewhere = Frame("trl/models/utils.py", 99, "cast", "param.requires_grad = False")
    chains = (b.FREEZING_CHAIN[-1:], (elsewhere,))
    apart = dataclasses.replace(seen, freezes=tuple(Freeze(Stage.TRAINER, 8192, 14, chain) for chain in chains))
    verdict = judge_one(apart, LISTED)
    assert verdict.outcome is Outcome.FAIL
    assert f"nothing was frozen by {b.KBIT} (seen: " in verdict.reason


def test_a_freeze_without_frames_is_judged() -> None:
    """If all frames of a chain are plumbing, it is empty."""
    seen = frozen(healthy(versions=on_trl("0.22.2")), chain=())
    verdict = judge_one(seen, LISTED)
    assert verdict.outcome is Outcome.FAIL
    assert f"nothing was frozen by {b.KBIT} (seen: an unknown line)" in verdict.reason


def test_a_second_line_that_froze_is_not_covered_by_the_first() -> None:
    """A listed freeze does not excuse a second one."""
    seen = frozen(healthy("sft-peft-model", Variant("qwen2", Precision.NF4, gradient_checkpointing=True)))
    frames = (Frame("trl/other.py", 1, "f", "x"), Frame("peft/another.py", 2, "g", "p.requires_grad = False"))
    strange = dataclasses.replace(seen.freezes[0], frames=frames)
    [listed] = LISTED.listed(seen.flow, seen.variant, seen.device.kind, on_trl("0.22.2"))
    assert judge(seen, flow_named(seen.flow), (listed,)).outcome is Outcome.XFAIL
    verdict = judge(dataclasses.replace(seen, freezes=(*seen.freezes, strange)), flow_named(seen.flow), (listed,))
    assert verdict.outcome is Outcome.FAIL
    assert "also frozen by trl/other.py:1 -> peft/another.py:2: p.requires_grad = False" in verdict.reason


def test_where_a_flow_did_not_finish_nothing_deep_is_blamed() -> None:
    """There is nothing to compare: the error is the cause."""
    seen = d.changed(d.deep(b.healthy()), repeats=(), twin=None, wanderers=(), accumulation=None, checkpointing=None)
    seen = b.failed(d.changed(seen, evaluation=None), "ValueError", "gone", Stage.TRAINING)
    assert judged(seen).failing == ("F001",)


def test_an_infrastructure_failure_in_the_deep_tier_is_no_fault_of_the_versions() -> None:
    """Nothing is known about the versions then."""
    seen = d.ended(d.deep(), "twin")
    assert seen.deep is not None
    failure = dataclasses.replace(seen.deep.failures["twin"], message="CUDA out of memory")
    verdict = judged(d.changed(seen, failures={"twin": failure}))
    assert (verdict.outcome, verdict.reason) == (
        Outcome.INFRASTRUCTURE,
        "the machine failed: RuntimeError: CUDA out of memory",
    )


MULTIPLIES = Deviation(issue="x#1", title="", link="", kind="upstream", check="G402", symptom=Symptom.FALLS)


def test_deviations_of_the_deep_tier_are_not_expected_without_it() -> None:
    """A listed deviation of accumulation cannot appear in a run without accumulation."""
    assert judged(b.healthy(), MULTIPLIES).outcome is Outcome.PASS


def test_what_the_deep_tier_shows_and_is_listed_is_an_xfail() -> None:
    """It is reported as missing if it does not appear."""
    assert judged(d.changed(d.deep(), accumulation=d.scaled(4)), MULTIPLIES).outcome is Outcome.XFAIL
    assert judged(d.deep(), MULTIPLIES).outcome is Outcome.FAIL


def test_what_a_constructor_froze_before_it_raised_must_be_listed() -> None:
    """Else a second fault could hide behind the error: other lines, or fewer parameters."""
    message = "'generation_batch_size' and 'steps_per_generation' can not be both configured"
    entry = Signature(
        windows={"trl": ">=0.22.0,<0.23.0"},
        flows=("sft-peft-model",),
        check="F001",
        error=f"ValueError: {message}",
        raised="transformers/trainer.py::training_step",
        stage=Stage.TRAINER,
    )
    ledger = Ledger(issues=(issue(entry, name="trl#3980"),))
    seen = b.failed(frozen(healthy(versions=on_trl("0.22.2"))), "ValueError", message, Stage.TRAINER)
    unlisted = judge_one(seen, ledger)
    assert (unlisted.outcome, "also frozen by" in unlisted.reason) == (Outcome.FAIL, True)
    ledger = Ledger(issues=(issue(dataclasses.replace(entry, froze=b.KBIT), name="trl#3980"),))
    assert judge_one(seen, ledger).outcome is Outcome.XFAIL
    [freeze] = seen.freezes
    fewer = dataclasses.replace(seen, freezes=(dataclasses.replace(freeze, parameters=freeze.parameters // 2),))
    assert "the listed line froze 8,192 of 16,384 frozen parameters" in judge_one(fewer, ledger).reason
    assert judge_one(dataclasses.replace(seen, freezes=()), ledger).outcome is Outcome.FAIL


def test_a_listed_difference_of_gradients_is_compared() -> None:
    """Where neither gradient is a multiple of the other, only a difference of the listed size is an xfail."""
    entry = dataclasses.replace(MULTIPLIES, apart=0.0136)

    def off_by(share: float) -> Verdict:
        return judged(d.changed(d.deep(), accumulation=d.turned(share)), entry)

    assert off_by(0.0136).outcome is Outcome.XFAIL
    assert "G402 measured a difference of 0.05, not of 0.0136" in off_by(0.05).reason
    multiple = judged(d.changed(d.deep(), accumulation=d.scaled(4)), entry)
    assert "G402 measured no such difference, not of 0.0136" in multiple.reason
