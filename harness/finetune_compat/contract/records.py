"""The observation of a cell, as frozen values: the contract between the cell side and the host side.

The cell side builds and writes observations; the host side reads and judges them, also years later. Standard library
only: every stack's environment imports this module. An observation holds facts and no opinion.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

SCHEMA = 1
"""Version of the observation's schema. It increases when a field changes its meaning or is removed."""


REPORTED = ("trl", "peft", "transformers", "bitsandbytes", "torch", "accelerate", "datasets")
"""Distributions whose versions every observation records."""


class Stage(StrEnum):
    """A named moment in a flow. Only `CENSUS_STAGES` have a census; messages, freezes and errors may have any."""

    IMPORT = "import"
    LOAD = "load"
    PREPARE = "prepare"
    PEFT = "peft"
    TRAINER = "trainer"
    TRAINING = "training"
    AFTER_TRAINING = "after-training"
    RELOAD = "reload"


CENSUS_STAGES = (Stage.LOAD, Stage.PREPARE, Stage.PEFT, Stage.TRAINER, Stage.AFTER_TRAINING, Stage.RELOAD)


class Area(StrEnum):
    """The part of a model that a parameter belongs to."""

    LANGUAGE = "language"
    VISION = "vision"
    PROJECTOR = "projector"
    EMBEDDING = "embedding"
    NORM = "norm"
    HEAD = "head"
    ADAPTER = "adapter"


class Precision(StrEnum):
    """How the base weights are stored and where they are placed."""

    NF4 = "nf4"
    """4-bit NF4 as on an accelerator. On a CPU the weights report an accelerator device to TRL's modules."""
    NF4_PLAIN = "nf4-plain"
    """4-bit NF4 on the CPU without emulation. TRL takes other code paths for such weights."""
    INT8 = "int8"
    FULL = "full"
    NF4_BF16 = "nf4-bf16"
    """As `nf4`, with bfloat16 in place of float32: other weights, compute dtype, and training with `bf16=True`."""
    BF16 = "bf16"
    """As `full`, with weights in bfloat16, and training with `bf16=True`."""

    @property
    def quantized(self) -> bool:
        """Whether bitsandbytes stores the linear layers."""
        return self not in (Precision.FULL, Precision.BF16)

    @property
    def four_bit(self) -> bool:
        """Whether two weights share one stored byte."""
        return self in (Precision.NF4, Precision.NF4_PLAIN, Precision.NF4_BF16)

    @property
    def emulated(self) -> bool:
        """Whether weights on a CPU report an accelerator to TRL's modules."""
        return self in (Precision.NF4, Precision.NF4_BF16)

    @property
    def bf16(self) -> bool:
        """Whether the flow loads weights in bfloat16 and trains with `bf16=True`."""
        return self in (Precision.NF4_BF16, Precision.BF16)


class DeviceKind(StrEnum):
    """Where a cell ran."""

    CPU = "cpu"
    CUDA = "cuda"


class Actor(StrEnum):
    """The caller at a census: the flow itself, or a library inside a trainer."""

    FLOW = "flow"
    LIBRARY = "library"


class Absence(StrEnum):
    """Why a stage has no census."""

    NOT_IN_FLOW = "not in flow"
    """Neither the flow nor the libraries it calls have this step."""
    NOT_CALLED = "not called"
    """The library decides about the step, and did not take it in this version."""
    NOT_REACHED = "not reached"
    """The flow ended in an error before this stage."""


@dataclass(frozen=True, slots=True)
class Variant:
    """Model family x precision x gradient checkpointing."""

    model: str
    precision: Precision
    gradient_checkpointing: bool

    def __str__(self) -> str:
        return f"{self.model}-{self.precision}-{'gc' if self.gradient_checkpointing else 'nogc'}"


@dataclass(frozen=True, slots=True)
class VisionShape:
    """The sizes that determine the parameter counts of a Qwen2-VL or Qwen2.5-VL vision encoder.

    `hidden_size` is the width of its blocks; the output of its merger has the width of the language model.
    """

    depth: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    patch_size: int
    temporal_patch_size: int
    in_channels: int
    spatial_merge_size: int
    gated: bool
    """Whether a block's MLP is `gate_proj`, `up_proj`, `down_proj` behind RMS norms (Qwen2.5-VL) or `fc1`, `fc2` behind
    layer norms (Qwen2-VL).
    """


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes that determine a decoder's parameter counts, named as in its config."""

    family: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    qkv_bias: bool
    """Whether `q_proj`, `k_proj` and `v_proj` have a bias (Qwen2) or not (Llama)."""
    vision: VisionShape | None = None


ALL_LINEAR = "all-linear"
"""PEFT's name for every linear layer except the head, used instead of a list of targets."""


@dataclass(frozen=True, slots=True)
class LoraShape:
    """The part of a LoRA configuration that determines its parameter count."""

    r: int
    alpha: int
    dropout: float
    target_modules: tuple[str, ...]
    language_only: bool = False
    """Whether the targets are a pattern that excludes the vision encoder, instead of plain names."""


@dataclass(frozen=True, slots=True)
class ModelSizes:
    """Expected parameter counts of a cell. Counts are stored elements, except `logical`."""

    logical: int
    """All parameters of the model without adapters, unpacked."""
    stored: int
    at_load: tuple[int, ...]
    """The allowed trainable counts after loading."""
    adapters_on: Mapping[Area, int]
    """Adapter parameters by the area of the adapted module; empty for a flow without adapters."""
    dtypes: tuple[str, ...]
    """All dtypes of the model after loading."""


@dataclass(frozen=True, slots=True)
class StackRecord:
    """The stack of a cell, with the versions that were installed."""

    name: str
    python: str
    lock_sha256: str
    torch_wanted: str
    """The torch version the matrix names."""
    base_torch: bool
    """True if another torch than `torch_wanted` was installed and allowed."""
    resolved: Mapping[str, str]
    """Installed version by distribution name, as the environment reports it."""


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """The device a cell ran on. `emulates` is `cuda` if 4-bit weights reported an accelerator to TRL."""

    kind: DeviceKind
    name: str
    emulates: DeviceKind | None
    features: tuple[str, ...]
    """Features that change the behaviour of a library: `avx512_bf16` (of the CPU), `without_triton` (not installed)."""


@dataclass(frozen=True, slots=True)
class Attention:
    """The attention implementation, by Transformers' names: `sdpa`, `eager`, `flash_attention_2`."""

    asked: str
    used: str | None
    """The implementation that the loaded model reports; None if it was not loaded, or reports none."""


@dataclass(frozen=True, slots=True)
class AreaCount:
    """Stored (raw) elements of one area."""

    trainable: int
    total: int


@dataclass(frozen=True, slots=True)
class ActiveAdapters:
    """The adapters that a model uses. Others may be loaded, for example a frozen reference. Stored elements."""

    names: tuple[str, ...]
    """PEFT's names of the adapters (example: `default`)."""
    trainable: int
    total: int


@dataclass(frozen=True, slots=True)
class Census:
    """Parameters of the model at one stage. Counts are stored elements; `*_logical` unpacks 4-bit storage, as PEFT
    prints it.
    """

    name: Stage
    by: Actor
    trainable: int
    total: int
    trainable_logical: int
    total_logical: int
    by_area: Mapping[Area, AreaCount]
    trainable_names_sha256: str
    dtypes: Mapping[str, int]
    """Stored elements by dtype."""
    adapter_dtypes: tuple[str, ...]
    subject_sha256: str | None
    """Digest of the values that this flow trains: the active adapters, or the whole model if there are none."""
    adapters_on: Mapping[Area, AreaCount] | None = None
    """Counts of the active adapters by the area of the adapted module; None in older observations, which do not have
    it, or have it of all adapters.
    """
    adapted: Mapping[str, int] | None = None
    """Number of adapted modules by the last part of their name (example: `q_proj`); None likewise."""
    checkpointing: str | None = None
    """The model's gradient checkpointing: `off`, `on`, `reentrant`, `not reentrant`; None likewise."""
    active: ActiveAdapters | None = None
    """None if no layer names an active adapter, and in older observations."""


@dataclass(frozen=True, slots=True)
class AbsentStage:
    """A stage without a census, and the reason. A missing census is never filled in from another stage."""

    name: Stage
    reason: Absence


@dataclass(frozen=True, slots=True)
class Frame:
    """One line of a call chain. `file` is relative to site-packages, or to the project for a line of the flow."""

    file: str
    line: int
    function: str
    code: str


@dataclass(frozen=True, slots=True)
class Freeze:
    """A change of `requires_grad` from True to False on parameters that this flow trains. Innermost frame last."""

    stage: Stage
    parameters: int
    """Elements frozen by this call chain."""
    tensors: int
    frames: tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class Optimizer:
    """The optimizer's parameters compared with the trainable ones, when training began. Counts are elements."""

    parameters: int
    missing: int
    """Trainable elements that the optimizer does not hold."""
    extra: int
    """Elements in the optimizer that are not trainable."""


@dataclass(frozen=True, slots=True)
class Gradients:
    """Gradients of the trainable tensors during training. Counts are tensors."""

    tensors: int
    """Tensors that were trainable when training began."""
    silent: int
    """Tensors that never received a gradient."""
    zero: int
    """Tensors that received only gradients that are exactly zero."""
    non_finite: int
    """Tensors that received at least one NaN or infinite gradient."""


@dataclass(frozen=True, slots=True)
class ParameterClass:
    """A class of trainable tensors: equal name ending (example: `lora_A`) in one part of the model."""

    tensors: int
    reached: int | None
    """The step, from 1, by which every tensor had received a gradient other than zero; None if some never did."""
    unchanged: int
    """Number of tensors that training did not change at all."""
    largest_change: float
    """Largest absolute change of any element."""
    gradients_until: int | None = None
    """The last step, from 1, up to which every tensor received gradients other than zero; None if some tensor never
    did, and in older observations.
    """
    moving_until: int | None = None
    """The last step up to which every tensor changed; None if some tensor never did, or if not measured."""


@dataclass(frozen=True, slots=True)
class Frozen:
    """Tensors that were not trainable when training began, compared in float32 after training. Biases of 4-bit layers
    are left out, because bitsandbytes 0.50 and later casts them in place.
    """

    tensors: int
    changed: int
    examples: tuple[str, ...]
    """Names of some changed tensors."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels that the model received."""

    samples: int
    label_tokens: int
    all_masked: int
    """Samples without a label to learn: every label is -100."""
    ids_sha256: str
    labels_sha256: str
    positions: int = 0
    """All tokens, including padding and tokens with the label -100."""
    ends: int = 0
    """Samples with an end-of-sequence token in the input."""
    ends_masked: int = 0
    """Samples of `ends` whose end token is not a label, so the model never learns to stop."""
    foreign: int | None = None
    """Labels that are not the input token at their position; None in older observations."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of data that the model received, recognised by their tokens. A number below `given` is the index of a
    training row, `given + i` is evaluation row `i`, and -1 is a row of neither set.
    """

    given: int
    """Number of training rows that the trainer was given."""
    held_out: int
    """Number of evaluation rows that it was given."""
    trained: tuple[int, ...]
    """In the order in which they were trained."""
    evaluated: tuple[tuple[int, ...], ...]
    """Of the evaluation before and of the evaluation after training."""


@dataclass(frozen=True, slots=True)
class Dropout:
    """The dropout layers of the adapters: the share of nonzero inputs that they set to zero."""

    layers: int
    training: float | None
    """In one training step; None if no layer was called."""
    evaluation: float | None
    """In all evaluations; None likewise."""


@dataclass(frozen=True, slots=True)
class Reference:
    """One training step, computed again from its batch by the definition of the objective: with the weights before the
    step, the same dropout, and gradients before clipping.
    """

    step: int
    """From 1."""
    loss: float
    predicted: int
    """Label tokens that follow a token. Only these can be predicted."""
    label_tokens: int
    """All label tokens of the batch."""
    classes: Mapping[str, ClassDifference]
    """By class of tensors: `one` is the reference, `other` is the trainer's gradient."""


@dataclass(frozen=True, slots=True)
class Training:
    """The measurements of the training steps. Tuples have one entry per completed step."""

    steps: int
    """Requested number of steps."""
    loss: tuple[float, ...]
    grad_norm: tuple[float, ...]
    """Euclidean norm over all trainable tensors before clipping, measured at the tensors."""
    learning_rate: tuple[float, ...]
    """Read from the optimizer before each step; empty if the optimizer has no group."""
    learning_rate_asked: tuple[float, ...]
    """The schedule that the flow requests."""
    eval_before: float | None
    eval_after: float | None
    accuracy_before: float | None
    accuracy_after: float | None
    subject_delta: float
    """Largest absolute change of any element that this flow trains."""
    subject_finite: bool
    """Whether every element that this flow trains is finite after training."""
    optimizer: Optimizer
    gradients: Gradients
    classes: Mapping[str, ParameterClass] = field(default_factory=dict)
    """By class; empty in older observations. There the fields below are None or empty."""
    frozen: Frozen | None = None
    learning_rate_logged: tuple[float, ...] = ()
    """The learning rate in the trainer's log, by step."""
    rates_agree: bool | None = None
    """Whether all groups of the optimizer had the same learning rate before each step; None if not measured."""
    reference_before: float | None = None
    """Mean negative log-likelihood of the evaluation's label tokens, computed by the recorder from the model's logits:
    the expected eval_loss.
    """
    reference_after: float | None = None
    evaluated: Labels | None = None
    """Labels of the first evaluation."""
    still_layers: tuple[str, ...] = ()
    """Layers (example: `layers.1`) in which no trained tensor changed."""
    grad_norm_logged: tuple[float, ...] | None = None
    """The gradient norm in the trainer's log, by step; empty if it logs no norm, None in older observations."""
    rows: Rows | None = None
    """None for real weights, and in older observations. The fields below are None in older observations, too."""
    dropout: Dropout | None = None
    reference: Reference | None = None
    update_error: tuple[float, ...] | None = None
    """By step: the difference between the weights after the step and after a step of AdamW as requested, on the same
    gradients, as a share of the length of that step. None also for real weights.
    """


@dataclass(frozen=True, slots=True)
class Reply:
    """Largest difference of a logit between the trained model and two other models, on one evaluation batch."""

    without_adapter: float | None
    """Compared with the same model with its adapters switched off; None if it has none."""
    reloaded: float | None
    """Compared with the saved and reloaded model; None if the reload was not reached."""


@dataclass(frozen=True, slots=True)
class Forward:
    """Largest changes of a logit of the trained model, on one evaluation batch, without dropout."""

    spread: float
    """Standard deviation of the logits of the batch."""
    earlier: float
    """At the positions before the last token, if only the last token is changed."""
    last: float
    """At the last token itself."""
    padded: float
    """If every row is padded on both sides, with its attention mask."""


@dataclass(frozen=True, slots=True)
class LossPair:
    """Eval loss before and after training in another run of a flow; None if none was reported."""

    before: float | None
    after: float | None


@dataclass(frozen=True, slots=True)
class ClassDifference:
    """Gradients of one class of tensors in one step computed in two ways: Euclidean norms over all its tensors."""

    one: float
    other: float
    difference: float
    """Norm of the difference of the two gradients."""

    @property
    def relative(self) -> float:
        """The difference as a share of the larger norm; infinite if a gradient is NaN or infinite."""
        larger = max(self.one, self.other)
        if not math.isfinite(self.difference):
            return math.inf
        return self.difference / larger if larger else 0.0


@dataclass(frozen=True, slots=True)
class StepPair:
    """One optimizer step computed in two ways, without dropout: gradients before clipping, and the reported loss. `one`
    is the plain way, `other` is the way that should give the same result.
    """

    loss_one: float | None
    loss_other: float | None
    same_labels: bool
    """Whether both ways received the same rows and labels, in the same order."""
    classes: Mapping[str, ClassDifference]


@dataclass(frozen=True, slots=True)
class MetricResponse:
    """One metric of an evaluation: with unchanged, scrambled, and zeroed weights."""

    as_it_is: float
    again: float
    """The value farthest from `as_it_is` in further evaluations of the unchanged model."""
    scrambled: float
    zeroed: float

    @property
    def moved(self) -> bool:
        """Whether the metric of a perturbed model differs from `as_it_is` by more than `NOISE_MARGIN` times the noise
        between evaluations of the unchanged model. False if only some of these evaluations give NaN.
        """
        if math.isnan(self.again) != math.isnan(self.as_it_is):
            return False
        noise = NOISE_MARGIN * abs(self.again - self.as_it_is)
        return any(_apart(value, self.as_it_is, noise) for value in (self.scrambled, self.zeroed))


NOISE_MARGIN = 3.0
"""A metric responds if it changes by more than this many times its noise. Of evaluations with random metrics, 0.1 %
then seem to respond if the noise comes from eight evaluations. With one evaluation and a margin of 1, 67 % seemed to.
"""


def _apart(value: float, other: float, noise: float) -> bool:
    if not (math.isfinite(value) and math.isfinite(other)):
        return math.isnan(value) != math.isnan(other) or (not math.isnan(value) and value != other)
    return not abs(value - other) <= noise


@dataclass(frozen=True, slots=True)
class Response:
    """The response of an evaluation to perturbed weights, by metric."""

    metrics: Mapping[str, MetricResponse]

    @property
    def ignoring(self) -> tuple[str, ...]:
        """Metrics that did not change with any perturbation."""
        return tuple(name for name, metric in self.metrics.items() if not metric.moved)

    @property
    def responds(self) -> bool:
        """Whether there is a metric, and every metric changes with the weights."""
        return bool(self.metrics) and not self.ignoring


@dataclass(frozen=True, slots=True, kw_only=True)
class Deep:
    """The measurements of the deep tier, from further runs of a flow. Measurements that were not taken, or that ended
    in an error, are None or empty.
    """

    repeats: tuple[LossPair, ...] = ()
    """The same flow with the same seed: the noise of this machine."""
    twin: LossPair | None = None
    """The same flow with every step undone: how eval loss changes when nothing can be learned."""
    wanderers: tuple[LossPair, ...] = ()
    """The same flow with steps of the same size in random directions: how eval loss changes by chance."""
    accumulation: StepPair | None = None
    """One step on 4 rows at once, and on the same rows one by one. Rows have unequal numbers of labels."""
    checkpointing: StepPair | None = None
    """One step without and with gradient checkpointing; None if the variant has none."""
    evaluation: Response | None = None
    """The trainer's own evaluation of the trained model."""
    other_order: tuple[int, ...] = ()
    """The rows of the first steps with another seed, as in `Rows`."""
    failures: Mapping[str, Failure] = field(default_factory=dict)
    """Errors that ended a measurement, by field name."""
    duration_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of live tensors. On a CPU: distinct storages that Python objects hold, without the tensors that the stack's
    modules define at import. On a GPU: the memory allocated by torch's allocator.
    """

    start_bytes: int
    """After the import of the stack, before the flow."""
    end_bytes: int
    """After all objects of the flow were deleted and garbage collected."""
    peak_bytes: int
    """On a CPU: the maximum at all censuses, and after the first optimizer step, with gradients. Tensors that autograd
    saves for the backward pass are not included, because no Python object holds them. On a GPU: the allocator's peak.
    Both include the recorder's copy of the trained tensors, which it compares after training.
    """


@dataclass(frozen=True, slots=True)
class Message:
    """A warning, or a log record of level WARNING or above, with its stage and count."""

    stage: Stage
    category: str
    text: str
    count: int


@dataclass(frozen=True, slots=True)
class Failure:
    """The exception that ended the flow. Innermost frame last."""

    type: str
    message: str
    stage: Stage
    frames: tuple[Frame, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """Everything that one cell recorded."""

    cell: str
    stack: StackRecord
    device: DeviceRecord
    flow: str
    variant: Variant
    seed: int
    model: ModelShape | None
    """The shape of a tiny model; None for real weights."""
    lora: LoraShape | None
    handicap: str | None = None
    """The handicap of a flow in the calibration of the learning test; None otherwise."""
    sizes: ModelSizes | None = None
    """Sizes of real weights, from a model that the stack's libraries build of the config without weights. None if that
    failed, and for a tiny model, whose sizes follow from its shape.
    """
    attention: Attention | None = None
    stages: tuple[Census, ...] = ()
    absent: tuple[AbsentStage, ...] = ()
    freezes: tuple[Freeze, ...] = ()
    training: Training | None = None
    labels: Labels | None = None
    """Labels of all training steps."""
    reply: Reply | None = None
    forward: Forward | None = None
    """None if training did not finish, and in older observations."""
    deep: Deep | None = None
    """None if the deep tier was not run for this cell."""
    weights_sha256: str | None = None
    """Digest of the base model's unchanged weights."""
    options_dropped: tuple[str, ...] = ()
    """Options of the flow that the installed version accepts under none of their names."""
    warnings: tuple[Message, ...] = ()
    error: Failure | None = None
    memory: Memory | None = None
    """None if the flow could not begin, and in older observations."""
    duration_s: float = 0.0
    started_at: str = ""
    harness_version: str = ""
    lacks: tuple[str, ...] = ()
    """Fields that the harness which wrote this observation did not know, such as `Training.grad_norm_logged`. They have
    their default values, which are no measurements. Set when an older observation is read; empty in a new one.
    """
    schema: int = SCHEMA

    def census(self, stage: Stage) -> Census | None:
        """The last census at `stage` from a call of the flow, else from a library call; None if there is none."""
        found = None
        for census in reversed(self.stages):
            if census.name is stage:
                if census.by is Actor.FLOW:
                    return census
                found = found or census
        return found


class EndCause(StrEnum):
    """Why the process of a cell ended before the cell finished."""

    MEMORY = "memory"
    """It exceeded the plan's memory limit and was killed."""
    TIME = "time"
    """It exceeded the plan's time limit and was killed."""
    CRASH = "crash"
    """It crashed, or another process or the kernel (out of memory) killed it."""


@dataclass(frozen=True, slots=True)
class End:
    """How the process of a cell ended before the cell finished, as observed from outside."""

    cause: EndCause
    resident_bytes: int
    """Last measured resident memory of the process, including imports; 0 if never measured."""
    seconds: float
    """Seconds since the start of the cell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """Written before a cell runs, so that a killed process counts as infrastructure and not as missing."""

    cell: str
    started: str
    """UTC time, ISO 8601."""
    end: End | None = None
    """How its process ended; set in a second record, which is added if the process ended before the cell finished."""
    schema: int = field(default=SCHEMA)


def to_json(record: Observation | Started) -> str:
    """One line of standard JSON. Non-finite floats become the strings `NaN`, `Infinity`, `-Infinity`."""
    raw = standard(dataclasses.asdict(record))
    if not raw.get("lacks"):
        raw.pop("lacks", None)
    return json.dumps(raw, separators=(",", ":"), allow_nan=False)


def standard(value: Any) -> Any:
    """`value` in a form that standard JSON supports: a non-finite float becomes a string."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, Mapping):
        return {str(key): standard(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [standard(item) for item in value]
    return value
