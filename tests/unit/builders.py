"""Hand-made observations, one small function per case, for all host-side tests.

The numbers follow from the sizes of the tiny models and are calculated here once, by hand.
`contract/test_closed_forms.py` compares the closed forms of `finetune_compat.contract.closed_forms` with a brute-force
enumeration.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from finetune_compat.checks import Symptom
from finetune_compat.checks.ledger import Issue, Ledger, Signature
from finetune_compat.contract.catalog import MODELS, Extra, Head, Method, Objective, flow_named
from finetune_compat.contract.cell_id import CellId
from finetune_compat.contract.records import (
    CENSUS_STAGES,
    Absence,
    AbsentStage,
    Actor,
    Area,
    AreaCount,
    Attention,
    Census,
    ClassDifference,
    DeviceKind,
    DeviceRecord,
    Dropout,
    Failure,
    Forward,
    Frame,
    Freeze,
    Frozen,
    Gradients,
    Labels,
    Memory,
    Message,
    ModelSizes,
    Observation,
    Optimizer,
    ParameterClass,
    Precision,
    Reference,
    Reply,
    Rows,
    StackRecord,
    Stage,
    Training,
    Variant,
    to_json,
)
from finetune_compat.contract.verdict import Kind
from finetune_compat.results.run_files import Results, RowState, StackRow, _judge_row, write_row
from finetune_compat.results.summary import Summary, summarize

ADAPTER = 16_384
"""2 layers x r 8 x (q 128 + k 96 + v 96 + o 128 + gate 192 + up 192 + down 192)."""
REST = 16_704
"""Embedding and head 2 x 128 x 64, and 5 norms of 64: everything that is not quantized."""
HEAD = 8_192
"""128 x 64: the head that a model with tied embeddings does not have."""
SCORE = 64
"""1 x 64: a head that gives one number. Adapters have a trained copy of it."""
EXTRAS = {
    Extra.NOTHING: {},
    Extra.MAGNITUDES: {Area.LANGUAGE: 1_024},
    Extra.MODULES: {Area.EMBEDDING: 8_192, Area.HEAD: 8_192},
    Extra.TOKENS: {Area.EMBEDDING: 192},
}
"""2 layers x (q 64 + k 32 + v 32 + o 64 + gate 128 + up 128 + down 64); 128 x 64 each; 3 tokens x 64."""
EXTRA_CLASSES = {
    Extra.NOTHING: {},
    Extra.MAGNITUDES: {"lora_magnitude_vector": 14},
    Extra.MODULES: {"modules_to_save": 2},
    Extra.TOKENS: {"trainable_tokens_delta": 1},
}
"""Tensors by class."""
METHODS = {Method.LORA: ADAPTER, Method.IA3: 1_152, Method.VERA: 288}
"""2 layers x (q 64 + k 32 + v 32 + o 64 + gate 128 + up 128 + 128 into down); 2 layers x (q and o, 8 + 64 each)."""
METHOD_CLASSES = {
    Method.IA3: {"ia3_l": (14, 1)},
    Method.VERA: {"vera_lambda_b": (4, 1), "vera_lambda_d": (4, 2)},
}
"""Tensors by class, and the first step with a gradient."""
BIASES = 256
"""Qwen2's q, k and v biases: 2 layers x (64 + 32 + 32)."""
LINEARS = 73_728
"""2 layers x (q 4096 + k 2048 + v 2048 + o 4096 + gate, up, down 8192 each)."""


@dataclasses.dataclass(frozen=True)
class Sizes:
    """A tiny model, calculated by hand. The adapters here are on the vision encoder; every model has ADAPTER."""

    linears: int
    biases: int
    rest: int
    tensors: int
    """Weight matrices, norms, embedding, head and patches: everything except biases of linear layers."""
    bias_tensors: int
    vision_adapter: int = 0
    vision_pairs: int = 0
    """Pairs of lora_A and lora_B on the vision encoder."""


# Encoder of Qwen2-VL: 2 blocks x (qkv 32 x 96 + proj 32 x 32 + fc1 and fc2 32 x 128), merger 128 x 128 + 128 x 64.
# Biases: 2 x (96 + 32 + 128 + 32) and 128 + 64. Patches 32 x (3 x 2 x 4 x 4), 5 layer norms of 2 x 32.
# Tensors: patches, 5 norms of 2, 2 x 4 matrices, 2 in the merger; a bias for each matrix.
_PLAIN_ENCODER = Sizes(49_152, 768, 3_392, 21, 10)
# Qwen2.5-VL: gate, up and down 32 x 128 instead of fc1 and fc2, biases 128 + 128 + 32, RMS norms of 32.
_GATED_ENCODER = Sizes(57_344, 1_024, 3_232, 18, 12)
_DECODER = Sizes(LINEARS, BIASES, REST, 21, 6)


def _joined(encoder: Sizes, vision_adapter: int = 0, vision_pairs: int = 0) -> Sizes:
    return Sizes(
        _DECODER.linears + encoder.linears,
        _DECODER.biases + encoder.biases,
        _DECODER.rest + encoder.rest,
        _DECODER.tensors + encoder.tensors,
        _DECODER.bias_tensors + encoder.bias_tensors,
        vision_adapter,
        vision_pairs,
    )


SIZES = {
    "qwen2": _DECODER,
    "llama": Sizes(LINEARS, 0, REST, 21, 0),
    "qwen2-vl": _joined(_PLAIN_ENCODER),
    # 2 blocks x r 8 x (qkv 128 + fc1 160 + fc2 160).
    "qwen2-vl+vision": _joined(_PLAIN_ENCODER, 7_168, 6),
    "qwen2.5-vl": _joined(_GATED_ENCODER),
    # 2 blocks x r 8 x (qkv 128 + gate, up, down 160 each).
    "qwen2.5-vl+vision": _joined(_GATED_ENCODER, 9_728, 8),
}

ANY_FLOW = "sft-peft-model"
"""A flow whose model has the head of a language model."""

NF4 = Variant("qwen2", Precision.NF4, True)
NF4_NOGC = Variant("qwen2", Precision.NF4, False)
NF4_PLAIN = Variant("qwen2", Precision.NF4_PLAIN, True)
INT8 = Variant("qwen2", Precision.INT8, True)
FULL = Variant("qwen2", Precision.FULL, True)
NF4_BF16 = Variant("qwen2", Precision.NF4_BF16, True)
BF16 = Variant("qwen2", Precision.BF16, False)
VISION = Variant("qwen2-vl+vision", Precision.NF4, True)

TRAINER_FILE = "trl/trainer/sft_trainer.py"
OTHER = "peft/utils/other.py"
FREEZING_CHAIN = (
    Frame("finetune_compat/cell/flows/sft_peft_model.py", 34, "run", "trainer = SFTTrainer(model=model, **arguments)"),
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


@dataclasses.dataclass(frozen=True)
class Losses:
    """Eval losses of a healthy flow of one objective, and of a flow that learns nothing."""

    before: float
    after: float
    worse: float
    still: float
    """Six decimals of the loss of a flow in which nothing changes."""
    accuracy: tuple[float, float]


NEXT_TOKEN = Losses(4.8921, 4.4012, 4.9, 4.892134, (0.01, 0.11))
PREFERENCE = Losses(0.6931, 0.182, 0.7, 0.693147, (0.0, 1.0))
"""Before training the margin of every pair is 0, so the loss is ln 2 and no chosen completion has gained."""


UNPAIRED = Losses(0.5, 0.3231, 0.51, 0.5, (0.0, 0.875))
"""Before training every log-ratio is 0, so the loss is 1 - sigmoid(0) and no row has moved."""
GENERATED = Losses(0.0, 0.0, 0.0, 0.0, (0.5, 0.53))
"""Advantages sum to 0, and so does the loss of generations. Accuracy is the expected reward."""
REFERENCE_FREE = Losses(4.9531, 4.2666, 4.96, 4.953132, (0.5, 1.0))
"""A random model finds the chosen completion likelier in half of the pairs."""
SCORES = Losses(0.7573, 0.0087, 0.8, 0.757312, (0.4375, 1.0))
"""A new head orders pairs at random."""


def losses_of(flow: str) -> Losses:
    """Return the losses of the flow's objective."""
    return _LOSSES.get(flow_named(flow).objective, NEXT_TOKEN)


_LOSSES = {
    Objective.PREFERENCE: PREFERENCE,
    Objective.UNPAIRED: UNPAIRED,
    Objective.ONLINE: GENERATED,
    Objective.LEAVE_ONE_OUT: GENERATED,
    Objective.ODDS_RATIO: REFERENCE_FREE,
    Objective.CONTRASTIVE: REFERENCE_FREE,
    Objective.REWARD: SCORES,
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
    """Everything is as declared: what should train trains, and eval loss falls."""
    row = flow_named(flow)
    adapters = row.subject.value == "adapter"
    censuses = _censuses(flow, variant)
    presents = variant.precision in (Precision.NF4, Precision.NF4_BF16) and device is DeviceKind.CPU
    emulates = DeviceKind.CUDA if presents else None
    return Observation(
        cell=str(CellId(stack, flow, str(variant), device)),
        stack=StackRecord(stack, "3.11.7", "5f" * 32, "2.13.0", False, dict(versions)),
        device=DeviceRecord(device, "Example CPU", emulates, features),
        flow=flow,
        variant=variant,
        seed=17,
        model=MODELS[variant.model].shape,
        lora=(row.lora or MODELS[variant.model].lora) if adapters else None,
        attention=Attention("sdpa", "sdpa"),
        stages=censuses,
        absent=_absent(censuses, adapters),
        training=_training(flow, variant),
        labels=_labels(80 * _sequences(flow), flow, variant),
        reply=Reply(2.2 if adapters else None, 0.0),
        forward=None if _has_score(flow) else Forward(spread=0.5, earlier=0.0, last=0.2, padded=6e-7),
        weights_sha256="77" * 32,
        memory=Memory(2_048, 2_048, 900_000),
        duration_s=0.5,
        started_at="2026-11-20T12:00:00+00:00",
        harness_version="0.1.0",
    )


def real() -> Observation:
    """Real 4-bit weights, all as declared: bfloat16, and the head is the embedding, unlike in any tiny model."""
    seen, variant = healthy(), dataclasses.replace(NF4, model="tied-llama")
    stages = [dataclasses.replace(c, total=c.total - HEAD, total_logical=c.total_logical - HEAD) for c in seen.stages]
    load = stages[0]
    dtypes = {"bfloat16": load.dtypes["float32"] - HEAD, "uint8": load.dtypes["uint8"]}
    stages[0] = dataclasses.replace(load, trainable=load.trainable - HEAD, dtypes=dtypes)
    sizes = ModelSizes(
        logical=LINEARS + REST + BIASES - HEAD,
        stored=LINEARS // 2 + REST + BIASES - HEAD,
        at_load=(REST - HEAD,),
        adapters_on={Area.LANGUAGE: ADAPTER},
        dtypes=("bfloat16", "uint8"),
    )
    return dataclasses.replace(
        seen,
        cell=str(CellId(seen.stack.name, seen.flow, str(variant), seen.device.kind)),
        variant=variant,
        model=None,
        sizes=sizes,
        stages=tuple(stages),
        weights_sha256=None,
    )


def frozen(seen: Observation, *, again: bool = True, chain: tuple[Frame, ...] = FREEZING_CHAIN) -> Observation:
    """The silent trl#3926: the trainer froze the adapters, the steps ran, and nothing changed."""
    assert seen.training is not None
    stages = [_trainable(c, 0) if c.name in (Stage.TRAINER, Stage.AFTER_TRAINING) else c for c in seen.stages]
    if again:
        prepare = census(Stage.PREPARE, seen.variant, 0, adapters=True, by=Actor.LIBRARY)
        stages.insert([c.name for c in stages].index(Stage.TRAINER), prepare)
    still = _still(seen.training, seen.flow)
    assert still.frozen is not None
    adapters = sum(of_class.tensors for of_class in still.classes.values())
    training = dataclasses.replace(
        still,
        grad_norm=(0.0,) * 10,
        grad_norm_logged=(0.0,) * 10,
        optimizer=Optimizer(0, 0, 0),
        gradients=Gradients(0, 0, 0, 0),
        classes=_unreached(still.classes),
        frozen=Frozen(still.frozen.tensors + adapters, 0, ()),
        learning_rate=(),
    )
    freeze = Freeze(Stage.TRAINER, _adapter(seen.variant, seen.flow), adapters, chain)
    return dataclasses.replace(
        seen,
        stages=tuple(stages),
        absent=tuple(absent for absent in seen.absent if not (again and absent.name is Stage.PREPARE)),
        training=training,
        freezes=(freeze,),
        reply=_same_without(seen),
    )


def frozen_loud(seen: Observation) -> Observation:
    """The loud trl#3926, without gradient checkpointing: the same freeze, and backward() raises an error."""
    return failed(frozen(seen), "RuntimeError", NO_GRAD, Stage.TRAINING)


def failed(seen: Observation, kind: str, message: str, stage: Stage, place: Frame | None = None) -> Observation:
    """The flow raised an exception at `stage` and reached no later stage."""
    order = list(Stage)
    reached = tuple(c for c in seen.stages if order.index(c.name) < order.index(stage) or c.by is Actor.LIBRARY)
    lost = [c.name for c in seen.stages if c not in reached]
    return dataclasses.replace(
        seen,
        stages=reached,
        absent=(*seen.absent, *(AbsentStage(name, Absence.NOT_REACHED) for name in lost)),
        training=None,
        labels=seen.labels if stage in (Stage.AFTER_TRAINING, Stage.RELOAD) else None,
        reply=None,
        error=Failure(
            kind, message, stage, (place or Frame("transformers/trainer.py", 4071, "training_step", "loss.backward()"),)
        ),
    )


def raised_by(seen: Observation, chain: str) -> Observation:
    """The same error, raised by a call chain as the ledger writes it."""
    assert seen.error is not None
    parts = [place.split("::") for place in chain.split(" -> ")]
    frames = tuple(Frame(file, 1, function, "raise") for file, function in parts)
    return dataclasses.replace(seen, error=dataclasses.replace(seen.error, frames=frames))


def refused(seen: Observation) -> Observation:
    """The trainer refuses the flow's mistake with a ValueError that names it."""
    wrong = flow_named(seen.flow).refusal
    assert wrong is not None
    place = Frame(TRAINER_FILE, 700, "__init__", "raise ValueError(")
    return failed(seen, "ValueError", f"You passed {wrong} the wrong way.", Stage.TRAINER, place)


def out_of_memory(seen: Observation) -> Observation:
    """The machine ran out of memory."""
    return failed(seen, "OutOfMemoryError", "CUDA out of memory. Tried to allocate 2.00 GiB", Stage.TRAINING)


def masked_labels(seen: Observation) -> Observation:
    """Every label is -100: the loss is NaN, and the gradients carry no information."""
    assert seen.training is not None and seen.labels is not None
    nan = float("nan")
    tensors = seen.training.gradients.tensors
    reached = {
        name: dataclasses.replace(of_class, reached=1, largest_change=nan)
        for name, of_class in seen.training.classes.items()
    }
    training = dataclasses.replace(
        seen.training,
        loss=(nan,) * 10,
        grad_norm=(nan,) * 10,
        grad_norm_logged=(nan,) * 10,
        eval_before=nan,
        eval_after=nan,
        subject_finite=False,
        gradients=Gradients(tensors, 0, 0, tensors),
        classes=reached,
        reference_before=None,
        reference_after=None,
        evaluated=_unlabelled(seen.training.evaluated),
    )
    reply = Reply(None if seen.lora is None else nan, nan)
    return dataclasses.replace(seen, training=training, labels=_unlabelled(seen.labels), reply=reply)


def ends_masked(seen: Observation) -> Observation:
    """The pad token is the end token, so the collator masks both."""
    assert seen.labels is not None
    without = seen.labels.label_tokens - seen.labels.samples
    labels = dataclasses.replace(seen.labels, label_tokens=without, ends_masked=seen.labels.ends)
    return dataclasses.replace(seen, labels=labels)


def empty_optimizer(seen: Observation) -> Observation:
    """Gradients arrive, and the optimizer holds no parameter they belong to."""
    assert seen.training is not None
    return _stuck(seen, optimizer=Optimizer(0, seen.training.optimizer.parameters, 0), learning_rate=())


def zero_learning_rate(seen: Observation) -> Observation:
    """Everything is in place, and every step has length zero."""
    return _stuck(seen, learning_rate=(0.0,) * 10)


def rates_disagree(seen: Observation) -> Observation:
    """The optimizer has a second group with another learning rate; the first follows the schedule."""
    return _trained(seen, rates_agree=False)


def zero_gradients(seen: Observation) -> Observation:
    """Gradients arrive, and all of them are exactly zero."""
    assert seen.training is not None
    tensors = seen.training.gradients.tensors
    classes = _unreached(_still(seen.training, seen.flow).classes)
    norms = {"grad_norm": (0.0,) * 10, "grad_norm_logged": (0.0,) * 10}
    return _stuck(seen, gradients=Gradients(tensors, 0, tensors, 0), classes=classes, **norms)


def late(seen: Observation, kind: str, step: int) -> Observation:
    """A tensor of a class had only zero gradients until this step."""
    return _with_class(seen, kind, reached=step)


def vision_cut_off(seen: Observation) -> Observation:
    """No gradient reaches the adapters on the vision encoder; those on the language model train."""
    assert seen.training is not None
    pairs = SIZES[seen.variant.model].vision_pairs
    cut, never = seen, {"reached": None, "gradients_until": None}
    for kind in ("vision lora_A", "vision lora_B"):
        cut = _with_class(_with_class(cut, kind, unchanged=pairs, largest_change=0.0, moving_until=None), kind, **never)
    tensors = seen.training.gradients.tensors
    return _trained(cut, gradients=Gradients(tensors, 2 * pairs, 0, 0))


def stands_still(seen: Observation, kind: str) -> Observation:
    """One class received gradients and did not change; the others did."""
    assert seen.training is not None
    tensors = seen.training.classes[kind].tensors
    return _with_class(seen, kind, unchanged=tensors, largest_change=0.0, moving_until=None)


def ends_early(seen: Observation, kind: str, what: str, step: int | None) -> Observation:
    """A tensor of a class had `gradients` or was `moving` only up to this step. None: not measured."""
    return _with_class(seen, kind, **{f"{what}_until": step})


def gradient_norm_reported_as(seen: Observation, value: float) -> Observation:
    """The trainer logs this at every step instead of the gradient norm; the gradients are correct."""
    return _trained(seen, grad_norm_logged=(value,) * 10)


def training_loss_reported_as(seen: Observation, value: float) -> Observation:
    """The trainer logs this at every step instead of the loss; everything else is correct."""
    return _trained(seen, loss=(value,) * 10)


def frozen_weights_changed(seen: Observation, name: str = "model.embed_tokens.weight") -> Observation:
    """Training wrote to a tensor that was frozen at its start."""
    assert seen.training is not None and seen.training.frozen is not None
    return _trained(seen, frozen=Frozen(seen.training.frozen.tensors, 1, (name,)))


def no_step(seen: Observation) -> Observation:
    """Gradients and optimizer are correct, and the weights do not change."""
    return _stuck(seen)


def adapter_replaced(seen: Observation) -> Observation:
    """The trainer attached its own adapter instead of the given one; training then succeeded."""
    return at_stage(seen, Stage.PEFT, subject_sha256="0d" * 32)


def reload_differs(seen: Observation) -> Observation:
    """The reloaded adapter differs from the adapter at the end of training."""
    assert seen.reply is not None
    reloaded = at_stage(seen, Stage.RELOAD, subject_sha256="0e" * 32)
    return dataclasses.replace(reloaded, reply=dataclasses.replace(seen.reply, reloaded=1.7))


def reload_answers_otherwise(seen: Observation) -> Observation:
    """The same values, saved with another alpha or loaded onto another base model."""
    assert seen.reply is not None
    return dataclasses.replace(seen, reply=dataclasses.replace(seen.reply, reloaded=1.1))


def without_effect(seen: Observation) -> Observation:
    """The adapters changed, and the model's forward does not use them."""
    return dataclasses.replace(seen, reply=Reply(0.0, 0.0))


def losses(seen: Observation, before: float, after: float) -> Observation:
    """Evaluation reported these losses, and the logits agree."""
    changes = {"eval_before": before, "eval_after": after, "reference_before": before, "reference_after": after}
    return _trained(seen, **changes)


def learns_nothing(seen: Observation) -> Observation:
    """Weights change, and eval loss does not fall, or the expected reward does not rise."""
    if _generates(seen.flow):
        return _trained(seen, accuracy_after=0.499)
    return losses(seen, losses_of(seen.flow).before, losses_of(seen.flow).worse)


def half_precision_at_load(seen: Observation) -> Observation:
    """Weights that are not quantized were loaded in half precision, against the request."""
    dtypes = _census_of(seen, Stage.LOAD).dtypes
    return at_stage(
        seen, Stage.LOAD, dtypes={"float16" if d in ("float32", "bfloat16") else d: n for d, n in dtypes.items()}
    )


def adapter_dtypes(seen: Observation, at_trainer: tuple[str, ...], after: tuple[str, ...]) -> Observation:
    """The adapters have these dtypes."""
    return at_stage(
        at_stage(seen, Stage.TRAINER, adapter_dtypes=at_trainer), Stage.AFTER_TRAINING, adapter_dtypes=after
    )


def adapters_elsewhere(seen: Observation) -> Observation:
    """As many adapter parameters as requested, all of them on the vision encoder."""
    total = _adapter(seen.variant, seen.flow)
    return at_stage(seen, Stage.TRAINER, adapters_on={Area.VISION: AreaCount(total, total)})


def leaking(seen: Observation, left: int = 363_264) -> Observation:
    """This many more bytes are alive after the flow."""
    assert seen.memory is not None
    return dataclasses.replace(seen, memory=dataclasses.replace(seen.memory, end_bytes=seen.memory.start_bytes + left))


def other_attention(seen: Observation) -> Observation:
    """The model fell back to another attention implementation than the requested one."""
    return dataclasses.replace(seen, attention=Attention("sdpa", "eager"))


def of_older_harness(seen: Observation) -> Observation:
    """The same cell as recorded by older releases: no attention, classes, frozen weights, references, replies or
    memory.
    """
    before = {field.name: field.default for field in dataclasses.fields(Training) if field.name in _NEW_IN_TRAINING}
    training = seen.training and dataclasses.replace(seen.training, classes={}, **before)
    labels = seen.labels and dataclasses.replace(seen.labels, positions=0, ends=0, ends_masked=0, foreign=None)
    stages = tuple(dataclasses.replace(taken, adapters_on=None) for taken in seen.stages)
    absent = dict.fromkeys(("attention", "reply", "forward", "weights_sha256", "memory"))
    return dataclasses.replace(seen, stages=stages, training=training, labels=labels, **absent)  # type: ignore[arg-type]  # fields by name


_NEW_IN_TRAINING = (
    "learning_rate_logged",
    "frozen",
    "rates_agree",
    "reference_before",
    "reference_after",
    "evaluated",
    "grad_norm_logged",
    "rows",
    "dropout",
    "reference",
    "update_error",
)


def with_rows(seen: Observation, **changes: object) -> Observation:
    """Other rows reached the model."""
    assert seen.training is not None and seen.training.rows is not None
    return _trained(seen, rows=dataclasses.replace(seen.training.rows, **changes))  # type: ignore[arg-type]  # fields by name


def with_dropout(seen: Observation, **changes: object) -> Observation:
    """Dropout layers did something else."""
    assert seen.training is not None and seen.training.dropout is not None
    return _trained(seen, dropout=dataclasses.replace(seen.training.dropout, **changes))  # type: ignore[arg-type]  # fields by name


def with_reference(seen: Observation, **changes: object) -> Observation:
    """The step computed again gave something else."""
    assert seen.training is not None and seen.training.reference is not None
    return _trained(seen, reference=dataclasses.replace(seen.training.reference, **changes))  # type: ignore[arg-type]  # fields by name


def gradient_scaled(seen: Observation, factor: float) -> Observation:
    """The trainer's gradient is the reference times `factor`."""
    assert seen.training is not None and seen.training.reference is not None
    other = ClassDifference(0.5, 0.5 * abs(factor), 0.5 * abs(factor - 1))
    return with_reference(seen, classes=dict.fromkeys(seen.training.reference.classes, other))


def with_update_error(seen: Observation, error: float) -> Observation:
    """The third step of ten is not AdamW's."""
    return _trained(seen, update_error=(2e-7, 2e-7, error, *(2e-7,) * 7))


def with_forward(seen: Observation, **changes: float) -> Observation:
    """The forward of the trained model does something else."""
    assert seen.forward is not None
    return dataclasses.replace(seen, forward=dataclasses.replace(seen.forward, **changes))


def labels_shifted(seen: Observation) -> Observation:
    """A collator shifted the labels of all rows, which the model does once more."""
    assert seen.labels is not None
    return dataclasses.replace(seen, labels=dataclasses.replace(seen.labels, foreign=seen.labels.label_tokens))


def kept_alive(seen: Observation, kept: int = 4 * ADAPTER) -> Observation:
    """This many bytes of tensors outlive the flow: by default the adapter in float32."""
    assert seen.memory is not None
    memory = dataclasses.replace(seen.memory, end_bytes=seen.memory.start_bytes + kept)
    return dataclasses.replace(seen, memory=memory)


def warned(seen: Observation) -> Observation:
    """The warning quoted in reports of trl#3926, which healthy runs print as well."""
    message = Message(
        Stage.TRAINING, "UserWarning", "None of the inputs have requires_grad=True. Gradients will be None", 3
    )
    return dataclasses.replace(seen, warnings=(message,))


# -------------------------------------------------------------------------------------------------------------- parts


def census(
    stage: Stage, variant: Variant, trainable: int, *, adapters: bool, by: Actor = Actor.FLOW, flow: str = ANY_FLOW
) -> Census:
    """A census of the tiny model, with or without adapters."""
    extra = _adapter(variant, flow) if adapters else 0
    total, logical = _stored(variant, flow) + extra, _logical(variant, flow) + extra
    areas = {Area.LANGUAGE: AreaCount(0, total - extra)}
    if adapters:
        areas[Area.ADAPTER] = AreaCount(trainable, extra)
    packed = _packed(variant)
    return Census(
        name=stage,
        by=by,
        trainable=trainable,
        total=total,
        trainable_logical=trainable,
        total_logical=logical,
        by_area=areas,
        trainable_names_sha256="cc" * 32,
        dtypes=_dtypes(variant, total - packed - extra, extra) | ({_storage(variant): packed} if packed else {}),
        adapter_dtypes=("float32",) if adapters else (),
        subject_sha256="after" if stage in (Stage.AFTER_TRAINING, Stage.RELOAD) else "before",
        adapters_on=_adapters_on(variant, trainable, flow) if adapters else {},
    )


def _dtypes(variant: Variant, unquantized: int, adapters: int) -> dict[str, int]:
    """Adapters are in float32, whatever the base model is in."""
    if variant.precision not in (Precision.NF4_BF16, Precision.BF16):
        return {"float32": unquantized + adapters}
    return {"bfloat16": unquantized} | ({"float32": adapters} if adapters else {})


def _adapters_on(variant: Variant, trainable: int, flow: str) -> dict[Area, AreaCount]:
    """Adapter parameters by the module they are on, all trainable or all frozen."""
    vision = SIZES[variant.model].vision_adapter
    sizes = {Area.LANGUAGE: METHODS[flow_named(flow).method]} | ({Area.VISION: vision} if vision else {})
    sizes |= {Area.HEAD: SCORE} if _has_score(flow) else {}
    for area, extra in EXTRAS[flow_named(flow).extra].items():
        sizes[area] = sizes.get(area, 0) + extra
    return {area: AreaCount(total if trainable else 0, total) for area, total in sizes.items()}


def at_stage(seen: Observation, stage: Stage, **changes: object) -> Observation:
    """Change fields of the observation's census of `stage`."""
    changed = dataclasses.replace(_census_of(seen, stage), **changes)  # type: ignore[arg-type]  # fields by name
    return dataclasses.replace(seen, stages=tuple(changed if c.name is stage else c for c in seen.stages))


def _censuses(flow: str, variant: Variant) -> tuple[Census, ...]:
    stages = flow_named(flow).expects
    by_library = Actor.FLOW if flow == "sft-full" or flow_named(flow).handed_over else Actor.LIBRARY
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
        found.append(census(stage, variant, _expected(flow, variant, stage), adapters=attached, by=actor, flow=flow))
    return tuple(found)


def _expected(flow: str, variant: Variant, stage: Stage) -> int:
    if flow == "sft-full":
        return _stored(variant, flow)
    if stage is Stage.LOAD:
        rest = SIZES[variant.model].rest - (HEAD - SCORE if _has_score(flow) else 0)
        return rest if variant.precision.quantized else _stored(variant, flow)
    return 0 if stage is Stage.PREPARE else _adapter(variant, flow)


def _absent(censuses: Sequence[Census], adapters: bool) -> tuple[AbsentStage, ...]:
    taken = {found.name for found in censuses}
    reason = Absence.NOT_CALLED if adapters else Absence.NOT_IN_FLOW
    return tuple(AbsentStage(stage, reason) for stage in CENSUS_STAGES if stage not in taken)


def _training(flow: str, variant: Variant) -> Training:
    rates = tuple(1e-2 * (10 - step) / 10 for step in range(10))
    whole, loss = flow == "sft-full", losses_of(flow)
    classes = _whole_classes(variant) if whole else _adapter_classes(flow, variant)
    return Training(
        steps=10,
        loss=tuple(loss.before + 0.0079 - 0.04 * step for step in range(10)),
        grad_norm=(1.17,) * 10,
        learning_rate=rates,
        learning_rate_asked=rates,
        learning_rate_logged=rates,
        eval_before=loss.before,
        eval_after=loss.after,
        accuracy_before=loss.accuracy[0],
        accuracy_after=loss.accuracy[1],
        subject_delta=0.04,
        subject_finite=True,
        optimizer=Optimizer(_stored(variant, flow) if whole else _adapter(variant, flow), 0, 0),
        gradients=Gradients(sum(of_class.tensors for of_class in classes.values()), 0, 0, 0),
        classes=classes,
        frozen=Frozen(0 if whole else _base_tensors(variant), 0, ()),
        reference_before=None if _generates(flow) else loss.before,
        reference_after=None if _generates(flow) else loss.after,
        evaluated=_labels(16 * _sequences(flow), flow, variant),
        grad_norm_logged=(1.17,) * 10,
        rates_agree=True,
        rows=Rows(64, 16, (*SHUFFLED, *SHUFFLED[48:]), (HELD_OUT, HELD_OUT)),
        dropout=Dropout(0, None, None) if whole else _dropout(flow, variant),
        reference=_reference(loss.before + 0.0079 - 0.04, classes),
        update_error=(2e-7,) * 10,
    )


SHUFFLED = tuple(row * 5 % 64 for row in range(64))
"""The 64 training rows, each once: 5 and 64 have no common divisor."""
HELD_OUT = tuple(range(64, 80))


def _dropout(flow: str, variant: Variant) -> Dropout:
    """As the LoRA configuration asks, where the trainer leaves it on: in 2 layers of 7 targets, and in the encoder."""
    asked = (flow_named(flow).lora or MODELS[variant.model].lora).dropout
    share = 0.0 if flow.startswith(("kto-", *_TWO_EACH[:-1])) else asked
    return Dropout(14 + SIZES[variant.model].vision_pairs, share, 0.0)


def _reference(loss: float, classes: Mapping[str, ParameterClass]) -> Reference:
    """The second step: every class has the gradient that it should have, but for rounding."""
    return Reference(2, loss, 200, 200, dict.fromkeys(classes, ClassDifference(0.5, 0.5, 2e-7)))


PRETENDED = (
    "sft-peft-model-and-config",
    "sft-adapter-reload-frozen",
    "sft-adapter-reload-trainable",
    "sft-adapter-reload-edited",
)
"""Flows whose lora_B was trained before, so that lora_A has a gradient in the first step."""


def _adapter_classes(flow: str, variant: Variant) -> dict[str, ParameterClass]:
    """7 targets in 2 layers, and the targets of the vision encoder. With lora_B at zero, lora_A starts a step later."""
    method = flow_named(flow).method
    if method is not Method.LORA:
        return {kind: _class(tensors, reached, 0.04) for kind, (tensors, reached) in METHOD_CLASSES[method].items()}
    first = 1 if flow in PRETENDED else 2
    found = {"lora_A": _class(14, first, 0.03), "lora_B": _class(14, 1, 0.04)}
    pairs = SIZES[variant.model].vision_pairs
    if pairs:
        found["vision lora_A"] = _class(pairs, first, 0.02)
        found["vision lora_B"] = _class(pairs, 1, 0.02)
    if _has_score(flow):
        found["modules_to_save"] = _class(1, 1, 0.04)
    for kind, tensors in EXTRA_CLASSES[flow_named(flow).extra].items():
        found[kind] = _class(tensors, 1, 0.04)
    return found


def _class(tensors: int, reached: int, largest_change: float) -> ParameterClass:
    """A class that trained from the step it was first reached to the last of ten."""
    return ParameterClass(tensors, reached, 0, largest_change, gradients_until=10, moving_until=10)


def _whole_classes(variant: Variant) -> dict[str, ParameterClass]:
    """Every tensor of the tiny decoder, by class."""
    targets = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    sizes = dict.fromkeys(targets, 2) | {"embedding": 1, "norm": 5, "head": 1}
    biases = SIZES[variant.model].bias_tensors
    sizes |= {"bias": biases} if biases else {}
    return {name: _class(tensors, 1, 0.04) for name, tensors in sizes.items()}


def _base_tensors(variant: Variant) -> int:
    """Frozen tensors that are compared: all except the biases of 4-bit layers."""
    sizes = SIZES[variant.model]
    return sizes.tensors + (0 if variant.precision.four_bit else sizes.bias_tensors)


def _labels(rows: int, flow: str, variant: Variant) -> Labels:
    """24 words and an end token in a row; rows with a picture begin with two marks and 4 merged patches. Where the
    first 10 words are a prompt, labels begin after it. Generations have 2 tokens.
    """
    picture = 6 if "-vl" in variant.model else 0
    prompt = 10 if flow.startswith(("rft-", "dpo-", "kto-", "orpo-", "cpo-")) else 0
    each = 1 if _has_score(flow) else 2 if _generates(flow) else 25 - prompt
    return Labels(rows, each * rows, 0, "aa" * 32, "bb" * 32, (25 + picture) * rows, rows, 0, foreign=0)


def _sequences(flow: str) -> int:
    """Sequences in a row: two for a preference, and as many as a prompt has completions."""
    return 2 if flow.startswith(_TWO_EACH) else 1


_TWO_EACH = ("dpo-", "orpo-", "cpo-", "grpo-", "rloo-", "reward-")


def _generates(flow: str) -> bool:
    return flow_named(flow).objective in (Objective.ONLINE, Objective.LEAVE_ONE_OUT)


def _has_score(flow: str) -> bool:
    return flow_named(flow).head is Head.SCORE


def _unlabelled(labels: Labels | None) -> Labels:
    assert labels is not None
    return dataclasses.replace(labels, label_tokens=0, all_masked=labels.samples, ends_masked=labels.ends)


def _trained(seen: Observation, **changes: object) -> Observation:
    """Change facts about training."""
    assert seen.training is not None
    return dataclasses.replace(seen, training=dataclasses.replace(seen.training, **changes))  # type: ignore[arg-type]  # fields by name


def _with_class(seen: Observation, kind: str, **changes: object) -> Observation:
    assert seen.training is not None
    changed = dataclasses.replace(seen.training.classes[kind], **changes)  # type: ignore[arg-type]  # fields by name
    return _trained(seen, classes={**seen.training.classes, kind: changed})


def _still(training: Training, flow: str) -> Training:
    """The same training if no step changed anything: a lora_B of zeros keeps the gradient of lora_A at zero."""
    held = [name for name, of_class in training.classes.items() if of_class.reached == 2]
    classes = {
        name: dataclasses.replace(
            of_class,
            reached=None if name in held else of_class.reached,
            unchanged=of_class.tensors,
            largest_change=0.0,
            gradients_until=None if name in held else of_class.gradients_until,
            moving_until=None,
        )
        for name, of_class in training.classes.items()
    }
    zero = sum(training.classes[name].tensors for name in held)
    return dataclasses.replace(
        training,
        subject_delta=0.0,
        accuracy_after=training.accuracy_before,
        gradients=dataclasses.replace(training.gradients, zero=zero),
        classes=classes,
        **dict.fromkeys(("eval_before", "eval_after"), losses_of(flow).still),
        **dict.fromkeys(("reference_before", "reference_after"), None if _generates(flow) else losses_of(flow).still),
    )


def _unreached(classes: Mapping[str, ParameterClass]) -> dict[str, ParameterClass]:
    never = {"reached": None, "gradients_until": None}
    return {name: dataclasses.replace(of_class, **never) for name, of_class in classes.items()}


def _stuck(seen: Observation, **changes: object) -> Observation:
    assert seen.training is not None
    # The reloaded adapter equals the adapter at the end of training, because nothing changed.
    still = dataclasses.replace(seen, training=_still(seen.training, seen.flow), reply=_same_without(seen))
    return _trained(still, **changes)


def _same_without(seen: Observation) -> Reply:
    """The effect in a model whose weights did not change: a lora_B of zeros has none, a trained one has."""
    alone = 2.2 if seen.flow in PRETENDED else 0.0
    return Reply(None if seen.lora is None else alone, 0.0)


def _trainable(found: Census, trainable: int) -> Census:
    adapters = found.by_area[Area.ADAPTER].total
    return dataclasses.replace(
        found,
        trainable=trainable,
        trainable_logical=trainable,
        by_area={**found.by_area, Area.ADAPTER: AreaCount(trainable, adapters)},
        adapters_on={area: AreaCount(0, count.total) for area, count in (found.adapters_on or {}).items()},
    )


def _census_of(seen: Observation, stage: Stage) -> Census:
    found = seen.census(stage)
    assert found is not None
    return found


def _adapter(variant: Variant, flow: str) -> int:
    extra = sum(EXTRAS[flow_named(flow).extra].values()) + (SCORE if _has_score(flow) else 0)
    return METHODS[flow_named(flow).method] + SIZES[variant.model].vision_adapter + extra


def _logical(variant: Variant, flow: str) -> int:
    sizes = SIZES[variant.model]
    return sizes.linears + sizes.biases + sizes.rest - (HEAD - SCORE if _has_score(flow) else 0)


def _packed(variant: Variant) -> int:
    """Number of stored elements of quantized weights."""
    linears = SIZES[variant.model].linears
    return (linears // 2 if variant.precision.four_bit else linears) if variant.precision.quantized else 0


def _storage(variant: Variant) -> str:
    return "uint8" if variant.precision.four_bit else "int8"


def _stored(variant: Variant, flow: str) -> int:
    return _logical(variant, flow) - (SIZES[variant.model].linears // 2 if variant.precision.four_bit else 0)


# ------------------------------------------------------------------------------------------------------------- ledgers

KBIT = f"trl/models/utils.py::prepare_peft_model -> {OTHER}::prepare_model_for_kbit_training"
"""What froze in every story."""

FLAGSHIP = Signature(
    windows={"trl": ">=0.20.0,<0.23.1"},
    flows=("sft-peft-model",),
    check="C104",
    precisions=(Precision.NF4, Precision.INT8),
    froze=KBIT,
    symptom=Symptom.FLAT,
    error="RuntimeError: element 0 of tensors does not require grad",
    raised="transformers/trainer.py::training_step",
    stage=Stage.TRAINING,
)
"""Both forms of one fault: silent with gradient checkpointing, loud without."""


def issue(*shows: Signature, name: str = "trl#3926") -> Issue:
    """The ledger entry of trl#3926, or one like it."""
    return Issue(
        id=name,
        title="SFTTrainer freezes the adapters of a PeftModel it is handed",
        kind=Kind.UPSTREAM,
        link="https://github.com/huggingface/trl/issues/3926",
        cause="SFTTrainer prepares a PeftModel for k-bit training a second time, which freezes every parameter.",
        remedy="Hand the base model and peft_config to SFTTrainer, or use TRL 0.23.1 or newer.",
        needs="SFTTrainer is handed a PeftModel",
        sees="0 trainable parameters",
        imports=("trl.SFTTrainer",),
        shows=shows or (FLAGSHIP,),
        fixed_by="https://github.com/huggingface/trl/pull/4081",
    )


LISTED = Ledger(issues=(issue(),))
UNLISTED = Ledger(issues=())


def on_trl(version: str) -> dict[str, str]:
    """The versions of every case, with another TRL."""
    return {**VERSIONS, "trl": version}


# --------------------------------------------------------------------------------------------------------------- runs


def ran(*seen: Observation, lost: tuple[str, ...] = ()) -> StackRow:
    """The row of a stack that ran these cells and lost some."""
    return StackRow(seen[0].stack.name, RowState.RAN, "", (*(each.cell for each in seen), *lost))


def uninstallable(stack: str, reason: str = "no solution found") -> StackRow:
    """The row of a stack whose packages could not be installed."""
    return StackRow(stack, RowState.UNINSTALLABLE, reason, ())


def stored(run: Path, rows: Sequence[StackRow], *seen: Observation) -> Path:
    """Write a run directory as cells and sessions write it."""
    for row in rows:
        write_row(run, row)
    run.mkdir(parents=True, exist_ok=True)
    (run / "observations.jsonl").write_text("".join(f"{to_json(each)}\n" for each in seen), encoding="utf-8")
    return run


def results_of(rows: Sequence[StackRow], *seen: Observation, ledger: Ledger = UNLISTED) -> Results:
    """The results of a run, without files."""
    observed = {each.cell: each for each in seen}
    verdicts = [verdict for row in rows for verdict in _judge_row(row, {}, observed, ledger)]
    return Results(Path("reports/runs/example"), tuple(rows), observed, tuple(verdicts))


def summary_of(rows: Sequence[StackRow], *seen: Observation, ledger: Ledger = UNLISTED) -> Summary:
    """The summary of such a run."""
    return summarize(results_of(rows, *seen, ledger=ledger), ledger)
