"""Observations made by hand, one small function per story, for every test of the host side.

The numbers follow from the tiny models' sizes and are worked out here once, by hand; `tests/unit/test_counts.py` holds
the closed forms of `harness.counts` against a brute-force enumeration.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.catalog import LORA, MODELS, flow_named
from harness.checks import Symptom
from harness.ledger import Issue, Kind, Ledger, Signature
from harness.records import (
    CENSUS_STAGES,
    Absence,
    AbsentStage,
    Actor,
    Area,
    AreaCount,
    Census,
    DeviceKind,
    DeviceRecord,
    Failure,
    Frame,
    Freeze,
    Gradients,
    Labels,
    Memory,
    Message,
    Observation,
    Optimizer,
    Precision,
    StackRecord,
    Stage,
    Training,
    Variant,
    cell_id,
    to_json,
)
from harness.report.summary import Summary, summarize
from harness.results import Results, RowState, StackRow, _judge_row, write_row

ADAPTER = 16_384
"""2 layers x r 8 x (q 128 + k 96 + v 96 + o 128 + gate 192 + up 192 + down 192)."""
REST = 16_704
"""Embedding and head 2 x 128 x 64, and 5 norms of 64: what is not quantized."""
BIASES = 256
"""Qwen2's q, k and v biases: 2 layers x (64 + 32 + 32)."""
LINEARS = 73_728
"""2 layers x (q 4096 + k 2048 + v 2048 + o 4096 + gate, up, down 8192 each)."""

NF4 = Variant("qwen2", Precision.NF4, True)
NF4_NOGC = Variant("qwen2", Precision.NF4, False)
NF4_PLAIN = Variant("qwen2", Precision.NF4_PLAIN, True)
INT8 = Variant("qwen2", Precision.INT8, True)
FULL = Variant("qwen2", Precision.FULL, True)

TRAINER_FILE = "trl/trainer/sft_trainer.py"
OTHER = "peft/utils/other.py"
FREEZING_CHAIN = (
    Frame("harness/cell/flows/sft_peft_model.py", 34, "run", "trainer = SFTTrainer(model=model, **arguments)"),
    Frame(TRAINER_FILE, 694, "__init__", "model = prepare_peft_model(model, peft_config, args)"),
    Frame("trl/models/utils.py", 539, "prepare_peft_model", "model = prepare_model_for_kbit_training("),
    Frame(OTHER, 142, "prepare_model_for_kbit_training", "param.requires_grad = False"),
)
NO_GRAD = "element 0 of tensors does not require grad and does not have a grad_fn"

VERSIONS = {
    "trl": "0.24.0",
    "peft": "0.17.1",
    "transformers": "4.56.1",
    "bitsandbytes": "0.47.0",
    "torch": "2.13.0",
    "accelerate": "1.10.1",
    "datasets": "4.0.0",
}


# ------------------------------------------------------------------------------------------------------------- stories


def healthy(
    flow: str = "sft-peft-model",
    variant: Variant = NF4,
    *,
    stack: str = "trl0.24-py311",
    versions: Mapping[str, str] = VERSIONS,
    device: DeviceKind = DeviceKind.CPU,
    features: tuple[str, ...] = (),
) -> Observation:
    """All as stated: what was asked to train trains, and eval loss falls."""
    row = flow_named(flow)
    adapters = row.subject.value == "adapter"
    censuses = _censuses(flow, variant)
    emulates = DeviceKind.CUDA if variant.precision is Precision.NF4 and device is DeviceKind.CPU else None
    return Observation(
        cell=cell_id(stack, flow, variant, device),
        stack=StackRecord(stack, "3.11.7", "5f" * 32, "2.13.0", False, dict(versions)),
        device=DeviceRecord(device, "Example CPU", emulates, features),
        flow=flow,
        variant=variant,
        seed=17,
        model=MODELS[variant.model],
        lora=LORA if adapters else None,
        stages=censuses,
        absent=_absent(censuses, adapters),
        training=_training(ADAPTER if adapters else _stored(variant)),
        labels=Labels(80, 2000, 0, "aa" * 32, "bb" * 32),
        memory=Memory(start_bytes=0, end_bytes=0, peak_bytes=4 * _logical(variant)),
        duration_s=0.5,
        started_at="2026-11-20T12:00:00+00:00",
        harness_version="0.1.0",
    )


def frozen(seen: Observation, *, again: bool = True, chain: tuple[Frame, ...] = FREEZING_CHAIN) -> Observation:
    """The flagship, silent: the trainer froze the adapters, the steps ran, nothing moved."""
    assert seen.training is not None
    stages = [_trainable(c, 0) if c.name in (Stage.TRAINER, Stage.AFTER_TRAINING) else c for c in seen.stages]
    if again:
        prepare = census(Stage.PREPARE, seen.variant, 0, adapters=True, by=Actor.LIBRARY)
        stages.insert([c.name for c in stages].index(Stage.TRAINER), prepare)
    training = dataclasses.replace(
        seen.training,
        eval_before=4.892134,
        eval_after=4.892134,
        grad_norm=(0.0,) * 10,
        subject_delta=0.0,
        optimizer=Optimizer(0, 0, 0),
        gradients=Gradients(0, 0, 0, 0),
        learning_rate=(),
    )
    freeze = Freeze(Stage.TRAINER, ADAPTER, 28, chain)
    return dataclasses.replace(
        seen,
        stages=tuple(stages),
        absent=tuple(absent for absent in seen.absent if not (again and absent.name is Stage.PREPARE)),
        training=training,
        freezes=(freeze,),
    )


def frozen_loud(seen: Observation) -> Observation:
    """The flagship without gradient checkpointing: the same freeze, and backward() finds nothing to differentiate."""
    return failed(frozen(seen), "RuntimeError", NO_GRAD, Stage.TRAINING)


def failed(seen: Observation, kind: str, message: str, stage: Stage, place: Frame | None = None) -> Observation:
    """The flow ended in an exception at `stage`; nothing later was reached."""
    order = list(Stage)
    reached = tuple(c for c in seen.stages if order.index(c.name) < order.index(stage) or c.by is Actor.LIBRARY)
    lost = [c.name for c in seen.stages if c not in reached]
    return dataclasses.replace(
        seen,
        stages=reached,
        absent=(*seen.absent, *(AbsentStage(name, Absence.NOT_REACHED) for name in lost)),
        training=None,
        labels=seen.labels if stage in (Stage.AFTER_TRAINING, Stage.RELOAD) else None,
        error=Failure(
            kind, message, stage, (place or Frame("transformers/trainer.py", 4071, "training_step", "loss.backward()"),)
        ),
    )


def refused(seen: Observation) -> Observation:
    """The trainer says what is wrong, as a ValueError that names the flow's mistake."""
    wrong = flow_named(seen.flow).refusal
    assert wrong is not None
    place = Frame(TRAINER_FILE, 700, "__init__", "raise ValueError(")
    return failed(seen, "ValueError", f"You passed {wrong} the wrong way.", Stage.TRAINER, place)


def out_of_memory(seen: Observation) -> Observation:
    """The machine gave out."""
    return failed(seen, "OutOfMemoryError", "CUDA out of memory. Tried to allocate 2.00 GiB", Stage.TRAINING)


def masked_labels(seen: Observation) -> Observation:
    """Every label is -100: a loss of NaN, and gradients that say nothing."""
    assert seen.training is not None and seen.labels is not None
    nan = float("nan")
    training = dataclasses.replace(
        seen.training,
        loss=(nan,) * 10,
        grad_norm=(nan,) * 10,
        eval_before=nan,
        eval_after=nan,
        subject_finite=False,
        gradients=Gradients(28, 0, 0, 28),
    )
    labels = dataclasses.replace(seen.labels, label_tokens=0, all_masked=seen.labels.samples)
    return dataclasses.replace(seen, training=training, labels=labels)


def empty_optimizer(seen: Observation) -> Observation:
    """Gradients arrive, and the optimizer holds nothing it could apply them to."""
    return _stuck(seen, optimizer=Optimizer(0, ADAPTER, 0), learning_rate=())


def zero_learning_rate(seen: Observation) -> Observation:
    """Everything is in place, and every step has length zero."""
    return _stuck(seen, learning_rate=(0.0,) * 10)


def zero_gradients(seen: Observation) -> Observation:
    """Gradients arrive, all of them exactly zero."""
    return _stuck(seen, gradients=Gradients(28, 0, 28, 0), grad_norm=(0.0,) * 10)


def no_step(seen: Observation) -> Observation:
    """Gradients and optimizer are right, and the weights stay what they were."""
    return _stuck(seen)


def adapter_replaced(seen: Observation) -> Observation:
    """The trainer attached an adapter of its own in place of the one it was given; training then went well."""
    given = dataclasses.replace(_census_of(seen, Stage.PEFT), subject_sha256="0d" * 32)
    return dataclasses.replace(seen, stages=tuple(given if c.name is Stage.PEFT else c for c in seen.stages))


def reload_differs(seen: Observation) -> Observation:
    """What is loaded again is not what training ended with."""
    reloaded = dataclasses.replace(_census_of(seen, Stage.RELOAD), subject_sha256="0e" * 32)
    return dataclasses.replace(seen, stages=tuple(reloaded if c.name is Stage.RELOAD else c for c in seen.stages))


def learns_nothing(seen: Observation) -> Observation:
    """Weights move, and eval loss does not fall."""
    assert seen.training is not None
    return dataclasses.replace(seen, training=dataclasses.replace(seen.training, eval_after=4.9))


def kept_alive(seen: Observation, kept: int = 4 * ADAPTER) -> Observation:
    """So many bytes of tensors, the adapter in float32 unless told otherwise, outlive the flow."""
    assert seen.memory is not None
    memory = dataclasses.replace(seen.memory, end_bytes=seen.memory.start_bytes + kept)
    return dataclasses.replace(seen, memory=memory)


def warned(seen: Observation) -> Observation:
    """The warning of the flagship's reports, which healthy runs print as well."""
    message = Message(
        Stage.TRAINING, "UserWarning", "None of the inputs have requires_grad=True. Gradients will be None", 3
    )
    return dataclasses.replace(seen, warnings=(message,))


# -------------------------------------------------------------------------------------------------------------- parts


def census(stage: Stage, variant: Variant, trainable: int, *, adapters: bool, by: Actor = Actor.FLOW) -> Census:
    """A census of the tiny model, with or without adapters on it."""
    extra = ADAPTER if adapters else 0
    total, logical = _stored(variant) + extra, _logical(variant) + extra
    areas = {Area.LANGUAGE: AreaCount(0, total - extra)}
    if adapters:
        areas[Area.ADAPTER] = AreaCount(trainable, extra)
    return Census(
        name=stage,
        by=by,
        trainable=trainable,
        total=total,
        trainable_logical=trainable,
        total_logical=logical,
        by_area=areas,
        trainable_names_sha256="cc" * 32,
        dtypes={"float32": total},
        adapter_dtypes=("float32",) if adapters else (),
        subject_sha256="after" if stage in (Stage.AFTER_TRAINING, Stage.RELOAD) else "before",
    )


def _censuses(flow: str, variant: Variant) -> tuple[Census, ...]:
    stages = flow_named(flow).expects
    by_library = Actor.LIBRARY if flow in ("sft-peft-config", "sft-inference-mode-config") else Actor.FLOW
    found = []
    for stage in CENSUS_STAGES:
        prepares = stage is Stage.PREPARE and variant.precision.quantized and by_library is Actor.LIBRARY
        if stage not in stages and not prepares:
            continue
        if stage is Stage.PREPARE and not variant.precision.quantized:
            continue
        attached = Stage.PEFT in stages and stage not in (Stage.LOAD, Stage.PREPARE)
        inside = stage in (Stage.PREPARE, Stage.PEFT)
        actor = by_library if inside else Actor.FLOW
        found.append(census(stage, variant, _expected(flow, variant, stage), adapters=attached, by=actor))
    return tuple(found)


def _expected(flow: str, variant: Variant, stage: Stage) -> int:
    if flow == "sft-full":
        return _stored(variant)
    if stage is Stage.LOAD:
        return REST if variant.precision.quantized else _stored(variant)
    return 0 if stage is Stage.PREPARE else ADAPTER


def _absent(censuses: Sequence[Census], adapters: bool) -> tuple[AbsentStage, ...]:
    taken = {found.name for found in censuses}
    reason = Absence.NOT_CALLED if adapters else Absence.NOT_IN_FLOW
    return tuple(AbsentStage(stage, reason) for stage in CENSUS_STAGES if stage not in taken)


def _training(trainable: int) -> Training:
    rates = tuple(1e-2 * (10 - step) / 10 for step in range(10))
    return Training(
        steps=10,
        loss=tuple(4.9 - 0.04 * step for step in range(10)),
        grad_norm=(1.17,) * 10,
        learning_rate=rates,
        learning_rate_asked=rates,
        eval_before=4.8921,
        eval_after=4.4012,
        accuracy_before=0.01,
        accuracy_after=0.11,
        subject_delta=0.04,
        subject_finite=True,
        optimizer=Optimizer(trainable, 0, 0),
        gradients=Gradients(28, 0, 0, 0),
    )


def _stuck(seen: Observation, **changes: object) -> Observation:
    assert seen.training is not None
    still = {"subject_delta": 0.0, "eval_before": 4.892134, "eval_after": 4.892134}
    training = dataclasses.replace(seen.training, **{**still, **changes})  # type: ignore[arg-type]  # fields by name
    # What is loaded again still is what training ended with: nothing moved.
    return dataclasses.replace(seen, training=training)


def _trainable(found: Census, trainable: int) -> Census:
    return dataclasses.replace(found, trainable=trainable, trainable_logical=trainable)


def _census_of(seen: Observation, stage: Stage) -> Census:
    found = seen.census(stage)
    assert found is not None
    return found


def _logical(variant: Variant) -> int:
    return LINEARS + REST + (BIASES if variant.model == "qwen2" else 0)


def _stored(variant: Variant) -> int:
    return _logical(variant) - (LINEARS // 2 if variant.precision.four_bit else 0)


# ------------------------------------------------------------------------------------------------------------- ledgers

FLAGSHIP = Signature(
    windows={"trl": ">=0.20.0,<0.23.1"},
    flows=("sft-peft-model",),
    check="C104",
    precisions=(Precision.NF4, Precision.INT8),
    frame=OTHER,
    called_from="trl/models/utils.py",
    symptom=Symptom.FLAT,
    error="element 0 of tensors does not require grad",
)
"""Both faces of one fault: silent with gradient checkpointing, loud without."""


def issue(*shows: Signature, name: str = "trl#3926") -> Issue:
    """The flagship's entry, or one like it."""
    return Issue(
        id=name,
        title="SFTTrainer freezes the adapters of a PeftModel it is handed",
        kind=Kind.UPSTREAM,
        link="https://github.com/huggingface/trl/issues/3926",
        cause="SFTTrainer prepares a PeftModel for k-bit training a second time, which freezes every parameter.",
        remedy="Hand the base model and peft_config to SFTTrainer, or use TRL 0.23.1 or newer.",
        shows=shows or (FLAGSHIP,),
        fixed_by="https://github.com/huggingface/trl/pull/4081",
    )


LISTED = Ledger(issues=(issue(),))
UNLISTED = Ledger(issues=())


def on_trl(version: str) -> dict[str, str]:
    """The versions of every story, with another TRL."""
    return {**VERSIONS, "trl": version}


# --------------------------------------------------------------------------------------------------------------- runs


def ran(*seen: Observation, lost: tuple[str, ...] = ()) -> StackRow:
    """The row of a stack that ran these cells, and lost some."""
    return StackRow(seen[0].stack.name, RowState.RAN, "", (*(each.cell for each in seen), *lost))


def uninstallable(stack: str, reason: str = "no solution found") -> StackRow:
    """The row of a stack nothing could be installed of."""
    return StackRow(stack, RowState.UNINSTALLABLE, reason, ())


def stored(run: Path, rows: Sequence[StackRow], *seen: Observation) -> Path:
    """A run's directory, as cells and sessions leave it."""
    for row in rows:
        write_row(run, row)
    run.mkdir(parents=True, exist_ok=True)
    (run / "observations.jsonl").write_text("".join(f"{to_json(each)}\n" for each in seen), encoding="utf-8")
    return run


def results_of(rows: Sequence[StackRow], *seen: Observation, ledger: Ledger = UNLISTED) -> Results:
    """The same without files."""
    observed = {each.cell: each for each in seen}
    verdicts = [verdict for row in rows for verdict in _judge_row(row, {}, observed, ledger)]
    return Results(Path("reports/runs/example"), tuple(rows), observed, tuple(verdicts))


def summary_of(rows: Sequence[StackRow], *seen: Observation, ledger: Ledger = UNLISTED) -> Summary:
    """The numbers of such a run."""
    return summarize(results_of(rows, *seen, ledger=ledger), ledger)
