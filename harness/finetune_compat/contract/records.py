"""The contract between the two sides: what a cell observed, as frozen values.

The cell side builds and writes these; the host side reads and judges them, years later too. Standard library only: this
module is imported inside every stack's environment. An observation holds facts and no opinion.
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
"""Version of the observation's schema; raised whenever a field changes its meaning or is removed."""


REPORTED = ("trl", "peft", "transformers", "bitsandbytes", "torch", "accelerate", "datasets")
"""Distributions whose versions every observation names."""


class Stage(StrEnum):
    """A named moment in a flow. Censuses are taken at `CENSUS_STAGES`; messages, freezes and errors come from any."""

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
    """Part of a model a parameter belongs to."""

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
    """4-bit NF4 as on an accelerator. On a CPU the weights present an accelerator device to TRL's own modules."""
    NF4_PLAIN = "nf4-plain"
    """4-bit NF4 that openly sits on the CPU: a real placement, and one in which TRL takes other paths."""
    INT8 = "int8"
    FULL = "full"

    @property
    def quantized(self) -> bool:
        """Whether bitsandbytes stores the linear layers."""
        return self is not Precision.FULL

    @property
    def four_bit(self) -> bool:
        """Whether two weights share one stored byte."""
        return self in (Precision.NF4, Precision.NF4_PLAIN)


class DeviceKind(StrEnum):
    """Where a cell ran."""

    CPU = "cpu"
    CUDA = "cuda"


class Actor(StrEnum):
    """Whose call a census was taken at: the flow's own line, or one the library made inside a trainer."""

    FLOW = "flow"
    LIBRARY = "library"


class Absence(StrEnum):
    """Why a stage has no census."""

    NOT_IN_FLOW = "not in flow"
    """The flow has no such step, and neither has any library call it makes."""
    NOT_CALLED = "not called"
    """The step is the library's, and the library did not take it in this version."""
    NOT_REACHED = "not reached"
    """The flow ended in an error before it."""


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
    """The sizes the parameter counts of a Qwen2-VL or Qwen2.5-VL vision encoder follow from.

    `hidden_size` is the width of its blocks; what leaves its merger has the width of the language model.
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
    """The sizes a decoder's parameter counts follow from, as its config names them."""

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
"""PEFT's name for every linear layer but the head, in place of a list of targets."""


@dataclass(frozen=True, slots=True)
class LoraShape:
    """The part of a LoRA configuration its parameter count follows from."""

    r: int
    alpha: int
    dropout: float
    target_modules: tuple[str, ...]
    language_only: bool = False
    """The targets are given as a pattern that leaves the vision encoder out, instead of as bare names."""


@dataclass(frozen=True, slots=True)
class ModelSizes:
    """What the parameters of a cell must add up to. Counts are stored elements, but for `logical`."""

    logical: int
    """All parameters of the model without adapters, unpacked."""
    stored: int
    at_load: tuple[int, ...]
    """What may be trainable once it is loaded, one of these."""
    adapters_on: Mapping[Area, int]
    """Adapter parameters by the area of the module they sit on; empty for a flow without adapters."""
    dtypes: tuple[str, ...]
    """All dtypes there are at load."""


@dataclass(frozen=True, slots=True)
class StackRecord:
    """The versions a cell really ran on."""

    name: str
    python: str
    lock_sha256: str
    torch_wanted: str
    """The torch version the matrix names."""
    base_torch: bool
    """True if another torch than `torch_wanted` was there and was allowed."""
    resolved: Mapping[str, str]
    """Installed version by distribution name, as the environment itself reports it."""


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """The device a cell ran on. `emulates` is `cuda` where 4-bit weights presented an accelerator to TRL."""

    kind: DeviceKind
    name: str
    emulates: DeviceKind | None
    features: tuple[str, ...]
    """What changes what a library does: `avx512_bf16` (the CPU has it), `without_triton` (it is not installed)."""


@dataclass(frozen=True, slots=True)
class Attention:
    """Which attention the model was loaded with, by Transformers' names: `sdpa`, `eager`, `flash_attention_2`."""

    asked: str
    used: str | None
    """What the loaded model says it uses; None if it was not loaded, or does not say."""


@dataclass(frozen=True, slots=True)
class AreaCount:
    """Stored (raw) elements of one area."""

    trainable: int
    total: int


@dataclass(frozen=True, slots=True)
class ActiveAdapters:
    """The adapters that a model computes with; others may be loaded, such as a frozen reference. Stored elements."""

    names: tuple[str, ...]
    """PEFT's names of them, such as `default`."""
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
    """Digest of the values of what this flow trains: the active adapters, or the whole model where there are none."""
    adapters_on: Mapping[Area, AreaCount] | None = None
    """Adapters by the area of the module they sit on; None in observations from before it was counted."""
    adapted: Mapping[str, int] | None = None
    """Modules that carry an adapter, by the last part of their name, such as `q_proj`; None likewise."""
    checkpointing: str | None = None
    """Gradient checkpointing as the model has it: `off`, `on`, `reentrant`, `not reentrant`; None likewise."""
    active: ActiveAdapters | None = None
    """None where no layer names an active adapter, and in observations from before it was counted."""


@dataclass(frozen=True, slots=True)
class AbsentStage:
    """A stage without a census, and why. No stage is ever filled in."""

    name: Stage
    reason: Absence


@dataclass(frozen=True, slots=True)
class Frame:
    """One line of a call chain. `file` is relative to site-packages, or to the project for the flow's own line."""

    file: str
    line: int
    function: str
    code: str


@dataclass(frozen=True, slots=True)
class Freeze:
    """`requires_grad` went from True to False on parameters this flow means to train. Innermost frame last."""

    stage: Stage
    parameters: int
    """Elements frozen by this call chain."""
    tensors: int
    frames: tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class Optimizer:
    """What the optimizer held when training began, against what was trainable then. Elements."""

    parameters: int
    missing: int
    """Trainable, but not in the optimizer."""
    extra: int
    """In the optimizer, but not trainable."""


@dataclass(frozen=True, slots=True)
class Gradients:
    """Gradients that arrived at the trainable tensors during training, by tensor."""

    tensors: int
    """Trainable tensors when training began."""
    silent: int
    """Never received a gradient."""
    zero: int
    """Received gradients, all of them exactly zero."""
    non_finite: int
    """Received at least one NaN or infinite gradient."""


@dataclass(frozen=True, slots=True)
class ParameterClass:
    """One class of trainable tensors: those whose names end alike, such as `lora_A`, in one part of the model."""

    tensors: int
    reached: int | None
    """The step, from 1, by which every tensor had received a gradient other than zero; None if some never did."""
    unchanged: int
    """Tensors that training left exactly as they were."""
    largest_change: float
    """Largest absolute change of any element."""
    gradients_until: int | None = None
    """The step, from 1, up to which gradients other than zero went on arriving at every tensor; None if some never had
    one, and in observations from before it was measured.
    """
    moving_until: int | None = None
    """The step up to which every tensor went on changing; None if some never did, and where nobody looked."""


@dataclass(frozen=True, slots=True)
class Frozen:
    """What was not trainable when training began, compared in float32 after it. Biases of 4-bit layers are left out:
    bitsandbytes casts them in place from 0.50 on.
    """

    tensors: int
    changed: int
    examples: tuple[str, ...]
    """Names of some that changed."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels the model really received."""

    samples: int
    label_tokens: int
    all_masked: int
    """Samples with nothing to learn: every label is -100."""
    ids_sha256: str
    labels_sha256: str
    positions: int = 0
    """Tokens, with padding and whatever has the label -100."""
    ends: int = 0
    """Samples with an end-of-sequence token among their inputs."""
    ends_masked: int = 0
    """Those whose end is not a label, so that the model never learns to stop."""


@dataclass(frozen=True, slots=True)
class Training:
    """What N steps did. Lists have one entry per step that ran."""

    steps: int
    """Steps asked for."""
    loss: tuple[float, ...]
    grad_norm: tuple[float, ...]
    """Euclidean norm over all trainable tensors before clipping, measured at the tensors."""
    learning_rate: tuple[float, ...]
    """Read from the optimizer before each step; empty where the optimizer holds no group."""
    learning_rate_asked: tuple[float, ...]
    """The schedule the flow asked for."""
    eval_before: float | None
    eval_after: float | None
    accuracy_before: float | None
    accuracy_after: float | None
    subject_delta: float
    """Largest absolute change of any element this flow means to train."""
    subject_finite: bool
    """Whether every element this flow means to train is finite after training."""
    optimizer: Optimizer
    gradients: Gradients
    classes: Mapping[str, ParameterClass] = field(default_factory=dict)
    """By class; empty in observations from before it was measured, as the fields below are None."""
    frozen: Frozen | None = None
    learning_rate_logged: tuple[float, ...] = ()
    """What the trainer's own log says of each step."""
    rates_agree: bool | None = None
    """Whether all groups of the optimizer had the same learning rate before each step; None where nobody looked."""
    reference_before: float | None = None
    """Mean negative log-likelihood of the evaluation's label tokens, computed here from the model's logits: what
    eval_loss should be.
    """
    reference_after: float | None = None
    evaluated: Labels | None = None
    """Labels of the first evaluation."""
    still_layers: tuple[str, ...] = ()
    """Layers, such as `layers.1`, in which training changed nothing of what the flow trains."""
    grad_norm_logged: tuple[float, ...] | None = None
    """What the trainer's own log says of each step: empty where it logs no norm, None in observations from before it
    was read.
    """


@dataclass(frozen=True, slots=True)
class Reply:
    """What the trained model says of one evaluation batch, against two others: largest difference of a logit."""

    without_adapter: float | None
    """Against itself with its adapters switched off; None where it has none."""
    reloaded: float | None
    """Against the model saved and loaded again; None if that was not reached."""


@dataclass(frozen=True, slots=True)
class LossPair:
    """Eval loss before and after training in one more run of a flow; None where none was reported."""

    before: float | None
    after: float | None


@dataclass(frozen=True, slots=True)
class ClassDifference:
    """Gradients of one class of tensors in the same step computed in two ways: Euclidean norms over all its tensors."""

    one: float
    other: float
    difference: float
    """Norm of the difference of the two."""

    @property
    def relative(self) -> float:
        """The difference as a share of the larger gradient; NaN and infinite gradients differ wholly."""
        larger = max(self.one, self.other)
        if not math.isfinite(self.difference):
            return math.inf
        return self.difference / larger if larger else 0.0


@dataclass(frozen=True, slots=True)
class StepPair:
    """The same optimizer step computed in two ways, without dropout: gradients before clipping, and the loss that was
    reported. `one` is the plain way, `other` the way that should change nothing.
    """

    loss_one: float | None
    loss_other: float | None
    same_labels: bool
    """Whether both were given the same rows and labels, in the same order."""
    classes: Mapping[str, ClassDifference]


@dataclass(frozen=True, slots=True)
class MetricResponse:
    """One metric of an evaluation: of the model as it is, then with its weights scrambled, then zeroed."""

    as_it_is: float
    again: float
    """The farthest from `as_it_is` that it came in further evaluations of the model as it is."""
    scrambled: float
    zeroed: float

    @property
    def moved(self) -> bool:
        """Whether a perturbed model got another value. Where the metric differs between evaluations of the model as it
        is, by `NOISE_MARGIN` times that; where it is a number only at times, nothing is known of it.
        """
        if math.isnan(self.again) != math.isnan(self.as_it_is):
            return False
        noise = NOISE_MARGIN * abs(self.again - self.as_it_is)
        return any(_apart(value, self.as_it_is, noise) for value in (self.scrambled, self.zeroed))


NOISE_MARGIN = 3.0
"""How many times the noise of an evaluation its answer to a perturbed model must differ. Of evaluations that draw their
metric at random 0.1 % then seem to respond, where the noise is that of eight; with one and a margin of 1, 67 % did.
"""


def _apart(value: float, other: float, noise: float) -> bool:
    if not (math.isfinite(value) and math.isfinite(other)):
        return math.isnan(value) != math.isnan(other) or (not math.isnan(value) and value != other)
    return not abs(value - other) <= noise


@dataclass(frozen=True, slots=True)
class Response:
    """What an evaluation says of a model whose weights were tampered with, by metric."""

    metrics: Mapping[str, MetricResponse]

    @property
    def ignoring(self) -> tuple[str, ...]:
        """Metrics that stayed what they were whatever was done to the model."""
        return tuple(name for name, metric in self.metrics.items() if not metric.moved)

    @property
    def responds(self) -> bool:
        """Whether there is a metric, and every one moved when the model did."""
        return bool(self.metrics) and not self.ignoring


@dataclass(frozen=True, slots=True, kw_only=True)
class Deep:
    """What the deep tier measured beside one run of a flow, by running it again in other ways. What was not measured,
    or ended in an error, is None or empty.
    """

    repeats: tuple[LossPair, ...] = ()
    """The same flow with the same seed: the noise of this machine."""
    twin: LossPair | None = None
    """The same flow, each step of which was undone: what eval loss does when nothing can be learned."""
    wanderers: tuple[LossPair, ...] = ()
    """The same flow with steps of the same size in random directions: what eval loss does by luck."""
    accumulation: StepPair | None = None
    """One step on 4 rows at once, against the same rows one by one; rows have unequal numbers of labels."""
    checkpointing: StepPair | None = None
    """One step without gradient checkpointing, against the same step with it; None where the variant has none."""
    evaluation: Response | None = None
    """The trainer's own evaluation of the trained model."""
    failures: Mapping[str, Failure] = field(default_factory=dict)
    """Errors that ended a measurement, by the name of its field above."""
    duration_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of tensors that were alive. On a CPU: in distinct storages that Python objects hold, without what the
    stack's modules define when they are imported; on a GPU: what torch's allocator has handed out.
    """

    start_bytes: int
    """When the stack was imported and the flow had not begun."""
    end_bytes: int
    """When everything of the flow had been dropped and garbage collected."""
    peak_bytes: int
    """On a CPU the most that was found at a census, or after the first optimizer step with its gradients still there;
    what autograd keeps for the backward pass is not in it, as no Python object holds that. On a GPU the allocator's own
    peak. Either way with the recorder's copy of what is trained, which it compares with after training.
    """


@dataclass(frozen=True, slots=True)
class Message:
    """A warning or log record of level WARNING and above, with the stage it came from and how often."""

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
    """All one cell recorded."""

    cell: str
    stack: StackRecord
    device: DeviceRecord
    flow: str
    variant: Variant
    seed: int
    model: ModelShape | None
    """The shape of a tiny model; None where real weights were trained."""
    lora: LoraShape | None
    handicap: str | None = None
    """What kept the flow from learning, where the learning test was calibrated."""
    sizes: ModelSizes | None = None
    """Of real weights, as the stack's own libraries make them of the config without weights; None for a tiny model,
    whose sizes follow from its shape, and where that failed.
    """
    attention: Attention | None = None
    stages: tuple[Census, ...] = ()
    absent: tuple[AbsentStage, ...] = ()
    freezes: tuple[Freeze, ...] = ()
    training: Training | None = None
    labels: Labels | None = None
    """Labels of all training steps."""
    reply: Reply | None = None
    deep: Deep | None = None
    """None where the deep tier was not run for this cell."""
    weights_sha256: str | None = None
    """Digest of the base model's weights before anything was done to them."""
    options_dropped: tuple[str, ...] = ()
    """Options the flow set that no name of the installed version accepts."""
    warnings: tuple[Message, ...] = ()
    error: Failure | None = None
    memory: Memory | None = None
    """None where the flow could not begin, and in observations of before it was measured."""
    duration_s: float = 0.0
    started_at: str = ""
    harness_version: str = ""
    schema: int = SCHEMA

    def census(self, stage: Stage) -> Census | None:
        """The last census at `stage` by the flow's own call, else by the library's; None if it is absent."""
        found = None
        for census in reversed(self.stages):
            if census.name is stage:
                if census.by is Actor.FLOW:
                    return census
                found = found or census
        return found


class EndCause(StrEnum):
    """Why the process of a cell ended before the cell was through."""

    MEMORY = "memory"
    """It held more memory than the plan's limit, and was ended."""
    TIME = "time"
    """It took longer than the plan's limit, and was ended."""
    CRASH = "crash"
    """It ended by itself, or somebody else ended it: a crash, or the kernel out of memory."""


@dataclass(frozen=True, slots=True)
class End:
    """How the process of a cell ended before the cell was through, as it was seen from outside."""

    cause: EndCause
    resident_bytes: int
    """Resident memory of the process, imports included, when it was last looked at; 0 where nobody looked."""
    seconds: float
    """From the cell's start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """Written before a cell runs, so that a killed process reads as infrastructure and not as nothing."""

    cell: str
    started: str
    """UTC time, ISO 8601."""
    end: End | None = None
    """How its process ended, in a line that is added when it did so before the cell was through."""
    schema: int = field(default=SCHEMA)


def to_json(record: Observation | Started) -> str:
    """One line of standard JSON. Non-finite floats become the strings `NaN`, `Infinity`, `-Infinity`."""
    return json.dumps(standard(dataclasses.asdict(record)), separators=(",", ":"), allow_nan=False)


def standard(value: Any) -> Any:
    """`value` as standard JSON can write it: a float that is not finite becomes a string."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, Mapping):
        return {str(key): standard(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [standard(item) for item in value]
    return value
