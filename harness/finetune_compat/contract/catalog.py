"""The flows, as an explicit tuple of values, and what a user is entitled to expect of each: written before anything
runs.

A flow is a value here plus one file in `harness/finetune_compat/cell/flows/`. No torch.

Entitlement is the user's side of the bargain, not the library's: a trainer that was asked to train either trains what
it was given, or refuses with an error that says so. A flow in which nothing trains without a word is a deviation in
every version, also where the maintainers call it intended, and is listed as such in `matrices/known-issues.toml`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from finetune_compat.contract.errors import UnknownName
from finetune_compat.contract.records import (
    ALL_LINEAR,
    DeviceKind,
    LoraShape,
    ModelShape,
    Precision,
    Stage,
    Variant,
    VisionShape,
)

ACCUMULATED_ROWS = 4
"""Rows of the step that the deep tier computes at once and one by one."""

ROW_WORDS = 24
"""Words of a row of data; each is a token with a label."""

COMPLETION_WORDS = 14
"""Words of a row that follow the prompt, where a flow's data have one; these and an end token have labels."""


class Expect(StrEnum):
    """How many parameters a user is entitled to find trainable at a stage."""

    UNQUANTIZED = "every parameter that is not quantized"
    NONE = "none"
    ADAPTER = "exactly the adapters"
    EVERYTHING = "every parameter"


class Objective(StrEnum):
    """What a flow's trainer optimises: which data, arguments and labels it has (`module`), and what of its loss is
    plausible (`finetune_compat.checks.objectives`).
    """

    SFT = "sft"
    PREFERENCE = "preference"
    PLAIN = "plain"
    """The next token, by `transformers.Trainer` without TRL."""

    @property
    def module(self) -> str:
        """The objective's own file on the cell side, as a module."""
        return f"finetune_compat.cell.objectives.{self}"


class Subject(StrEnum):
    """What a flow means to train."""

    ADAPTER = "adapter"
    MODEL = "model"


class Tier(StrEnum):
    """How much is measured."""

    QUICK = "quick"
    """Every cell once."""
    DEEP = "deep"
    """The cells of `DEEP_CELLS` again in several ways as well."""
    DEEP_ONLY = "deep-only"
    """These in all those ways, and no other cells."""


class Handicap(StrEnum):
    """What keeps a flow from learning, wholly or nearly. The learning test is calibrated with these."""

    FROZEN = "frozen"
    """Every step is undone."""
    WANDERING = "wandering"
    """Every step has the size it would have, in random directions."""
    HUNDREDTH = "learning rate / 100"
    ONE_LAYER = "one live layer"
    """Steps are undone but in the first layer."""
    ONE_CLASS = "one live class"
    """Steps are undone but in `lora_B` of `q_proj`; the flow must train adapters."""


@dataclass(frozen=True, slots=True)
class Flow:
    """One fine-tuning script and the table row of what its user is entitled to."""

    name: str
    story: str
    """What the script does, one sentence."""
    correct: bool
    """Whether the libraries document this way of doing it. The entitlement holds either way."""
    subject: Subject
    expects: dict[Stage, Expect]
    """Trainable parameters by stage. A stage that is not here is not judged."""
    handed_over: bool
    """Whether the adapters are made before the trainer sees them, so that the trainer must keep their values."""
    refusal: str | None
    """A ValueError raised while the trainer is built is a fair answer if its message names this; None: nothing is."""
    variants: tuple[Variant, ...]
    objective: Objective = Objective.SFT
    lora: LoraShape | None = None
    """The flow's own LoRA configuration; None: the model's."""
    row_labels: tuple[int, ...] = (ROW_WORDS, ROW_WORDS + 1)
    """Label tokens a sequence may have: releases differ in whether they append an end token."""
    since: str = "0"
    """First TRL release that can be asked for it."""

    @property
    def module(self) -> str:
        """The flow's own file, as a module."""
        return f"finetune_compat.cell.flows.{self.name.replace('-', '_')}"


QWEN2, LLAMA = "qwen2", "llama"
QWEN2_VL, QWEN2_VL_VISION = "qwen2-vl", "qwen2-vl+vision"
QWEN2_5_VL, QWEN2_5_VL_VISION = "qwen2.5-vl", "qwen2.5-vl+vision"

LORA = LoraShape(
    r=8,
    alpha=16,
    dropout=0.05,  # as users have it: a frozen run then shows a training loss that wiggles and goes nowhere
    target_modules=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
)


@dataclass(frozen=True, slots=True)
class TinyModel:
    """A tiny model, and what of it LoRA reaches."""

    shape: ModelShape
    lora: LoraShape
    since: str
    """First Transformers release with this architecture: the earliest whose wheel has its module."""


# Tiny, but with every distinction that matters: grouped key/value heads, a gated MLP, biases for Qwen2 and none for
# Llama, linear layers that are a whole number of bitsandbytes' 64-element blocks.
_DECODER = ModelShape(QWEN2, 128, 64, 128, 2, 4, 2, True)
_ENCODER = VisionShape(
    depth=2,
    hidden_size=32,
    intermediate_size=128,
    num_heads=2,
    patch_size=4,
    temporal_patch_size=2,
    in_channels=3,
    spatial_merge_size=2,
    gated=False,
)
_VL = replace(_DECODER, family=QWEN2_VL, vision=_ENCODER)
_VL_2_5 = replace(_DECODER, family=QWEN2_5_VL, vision=replace(_ENCODER, gated=True))

MODELS: dict[str, TinyModel] = {
    QWEN2: TinyModel(_DECODER, LORA, "4.37.0"),
    LLAMA: TinyModel(replace(_DECODER, family=LLAMA, qkv_bias=False), LORA, "4.28.0"),
    # The names of LORA exist in the language model of Qwen2-VL only.
    QWEN2_VL: TinyModel(_VL, LORA, "4.45.0"),
    QWEN2_VL_VISION: TinyModel(
        _VL, replace(LORA, target_modules=(*LORA.target_modules, "qkv", "fc1", "fc2")), "4.45.0"
    ),
    # In Qwen2.5-VL gate_proj, up_proj and down_proj are names of the vision encoder's layers too.
    QWEN2_5_VL: TinyModel(_VL_2_5, replace(LORA, language_only=True), "4.49.0"),
    QWEN2_5_VL_VISION: TinyModel(_VL_2_5, replace(LORA, target_modules=(*LORA.target_modules, "qkv")), "4.49.0"),
}

STEPS = 10
"""Training steps of a cell unless told otherwise: a healthy tiny model loses 13 % and more of its eval loss in them."""

BATCH_ROWS = 8
"""Rows of a training step."""

MAY_DROP = frozenset({"loss_type"})
"""Options a version may not know without changing what a cell does: before TRL 0.23 the loss is the one asked for."""

LEARNING_RATE = {Subject.ADAPTER: 1e-2, Subject.MODEL: 2e-3}
"""Large, so that ten steps decide: adapters start at zero effect, a whole random model needs less."""

REAL_LEARNING_RATE = {Subject.ADAPTER: 2e-4, Subject.MODEL: 2e-5}
"""For real weights, as users train them."""

_FOUR = (Precision.NF4, Precision.NF4_PLAIN, Precision.INT8, Precision.FULL)
_QUANTIZED = (Precision.NF4, Precision.NF4_PLAIN, Precision.INT8)
_THREE = (Precision.NF4, Precision.INT8, Precision.FULL)


def _both_gc(model: str, precisions: tuple[Precision, ...]) -> tuple[Variant, ...]:
    return tuple(Variant(model, precision, gc) for precision in precisions for gc in (True, False))


_LLAMA_MAIN = (
    Variant(LLAMA, Precision.NF4, True),
    Variant(LLAMA, Precision.INT8, True),
    Variant(LLAMA, Precision.FULL, False),
)

_VISION_MAIN = (
    *_both_gc(QWEN2_VL, _THREE),
    Variant(QWEN2_VL_VISION, Precision.NF4, True),
    Variant(QWEN2_VL_VISION, Precision.NF4, False),
    Variant(QWEN2_VL_VISION, Precision.INT8, True),
    Variant(QWEN2_VL_VISION, Precision.FULL, True),
    Variant(QWEN2_5_VL, Precision.NF4, True),
    Variant(QWEN2_5_VL, Precision.INT8, True),
    Variant(QWEN2_5_VL, Precision.FULL, False),
    Variant(QWEN2_5_VL_VISION, Precision.NF4, True),
    Variant(QWEN2_5_VL_VISION, Precision.FULL, False),
)

_ALL_LINEAR = replace(LORA, alpha=4 * LORA.r, dropout=0.0, target_modules=(ALL_LINEAR,))

_N4 = (
    Variant(QWEN2, Precision.NF4, True),
    Variant(QWEN2, Precision.INT8, True),
    Variant(QWEN2, Precision.FULL, True),
    Variant(QWEN2, Precision.FULL, False),
)
"""The field notes' second project; its flows vary in data, so they need not vary in everything."""

_ATTACHED_BY_TRAINER = {
    Stage.LOAD: Expect.UNQUANTIZED,
    Stage.TRAINER: Expect.ADAPTER,
    Stage.AFTER_TRAINING: Expect.ADAPTER,
    Stage.RELOAD: Expect.ADAPTER,
}
_ATTACHED_BY_USER = {**_ATTACHED_BY_TRAINER, Stage.PEFT: Expect.ADAPTER}
_PREPARED_BY_USER = {**_ATTACHED_BY_USER, Stage.PREPARE: Expect.NONE}

CATALOG: tuple[Flow, ...] = (
    Flow(
        name="sft-peft-config",
        story="The base model and a LoraConfig go to SFTTrainer, which prepares it and attaches the adapters.",
        correct=True,
        subject=Subject.ADAPTER,
        expects={**_ATTACHED_BY_TRAINER, Stage.PEFT: Expect.ADAPTER},
        handed_over=False,
        refusal=None,
        variants=_both_gc(QWEN2, _FOUR) + _LLAMA_MAIN + _VISION_MAIN,
    ),
    Flow(
        name="sft-peft-model",
        story="The user prepares and wraps the model, and hands the PeftModel to SFTTrainer without peft_config.",
        correct=False,
        subject=Subject.ADAPTER,
        expects=_PREPARED_BY_USER,
        handed_over=True,
        refusal=None,
        variants=_both_gc(QWEN2, _FOUR) + _LLAMA_MAIN + _VISION_MAIN,
    ),
    Flow(
        name="sft-peft-model-unprepared",
        story="The user wraps a quantized model without preparing it, and hands the PeftModel to SFTTrainer.",
        correct=False,
        subject=Subject.ADAPTER,
        expects=_ATTACHED_BY_USER,
        handed_over=True,
        refusal=None,
        variants=_both_gc(QWEN2, _QUANTIZED),
    ),
    Flow(
        name="sft-peft-model-and-config",
        story="SFTTrainer is given a PeftModel that was trained before, and the same LoraConfig as peft_config.",
        correct=False,
        subject=Subject.ADAPTER,
        expects=_PREPARED_BY_USER,
        handed_over=True,
        refusal="together with a `peft_config`",
        variants=_both_gc(QWEN2, _THREE),
    ),
    Flow(
        name="sft-inference-mode-config",
        story="The LoraConfig handed to SFTTrainer was read from a saved adapter and still says inference_mode=True.",
        correct=False,
        subject=Subject.ADAPTER,
        expects={**_ATTACHED_BY_TRAINER, Stage.PEFT: Expect.ADAPTER},
        handed_over=False,
        refusal="inference_mode",
        variants=_both_gc(QWEN2, _THREE),
    ),
    Flow(
        name="sft-adapter-reload-frozen",
        story="A saved adapter is loaded as PeftModel.from_pretrained does it, and handed to SFTTrainer to train on.",
        correct=False,
        subject=Subject.ADAPTER,
        expects=_PREPARED_BY_USER,
        handed_over=True,
        refusal="is_trainable",
        variants=_both_gc(QWEN2, _THREE),
    ),
    Flow(
        name="sft-adapter-reload-trainable",
        story="A saved adapter is loaded with is_trainable=True and handed to SFTTrainer to train on.",
        correct=True,
        subject=Subject.ADAPTER,
        expects=_PREPARED_BY_USER,
        handed_over=True,
        refusal=None,
        variants=_both_gc(QWEN2, _THREE),
    ),
    Flow(
        name="sft-adapter-reload-edited",
        story="A saved adapter is loaded after its file was edited to inference_mode=false, with train() and "
        "enable_input_require_grads(), and handed to SFTTrainer.",
        correct=False,
        subject=Subject.ADAPTER,
        expects=_PREPARED_BY_USER,
        handed_over=True,
        refusal="is_trainable",
        variants=_both_gc(QWEN2, _THREE),
    ),
    Flow(
        name="sft-all-linear",
        story="LoRA on all linear layers with alpha = 4r and no dropout, attached by SFTTrainer.",
        correct=True,
        subject=Subject.ADAPTER,
        expects={**_ATTACHED_BY_TRAINER, Stage.PEFT: Expect.ADAPTER},
        handed_over=False,
        refusal=None,
        variants=_N4,
        lora=_ALL_LINEAR,
    ),
    Flow(
        name="rft-all-linear",
        story="The same on rows the user tokenized, with labels on the completion alone.",
        correct=True,
        subject=Subject.ADAPTER,
        expects={**_ATTACHED_BY_TRAINER, Stage.PEFT: Expect.ADAPTER},
        handed_over=False,
        refusal=None,
        variants=_N4,
        lora=_ALL_LINEAR,
        row_labels=(COMPLETION_WORDS + 1,),
        since="0.8.0",  # with skip_prepare_dataset; before, SFTTrainer tokenizes whatever it is given
    ),
    Flow(
        name="rft-labels-masked",
        story="The same, and the mask found no completion in any row: every label is -100.",
        correct=False,
        subject=Subject.ADAPTER,
        expects={**_ATTACHED_BY_TRAINER, Stage.PEFT: Expect.ADAPTER},
        handed_over=False,
        refusal=None,
        variants=_N4,
        lora=_ALL_LINEAR,
        row_labels=(COMPLETION_WORDS + 1,),
        since="0.8.0",  # with skip_prepare_dataset; before, SFTTrainer tokenizes whatever it is given
    ),
    Flow(
        name="sft-full",
        story="The whole model is trained by SFTTrainer, without PEFT.",
        correct=True,
        subject=Subject.MODEL,
        expects=dict.fromkeys((Stage.LOAD, Stage.TRAINER, Stage.AFTER_TRAINING, Stage.RELOAD), Expect.EVERYTHING),
        handed_over=False,
        refusal=None,
        variants=(*_both_gc(QWEN2, (Precision.FULL,)), Variant(LLAMA, Precision.FULL, True)),
    ),
    Flow(
        name="trainer-peft-model",
        story="The user prepares and wraps the model, and trains it with transformers.Trainer, without TRL.",
        correct=True,
        subject=Subject.ADAPTER,
        expects=_PREPARED_BY_USER,
        handed_over=True,
        refusal=None,
        variants=_both_gc(QWEN2, _FOUR),
        objective=Objective.PLAIN,
    ),
    Flow(
        name="dpo-peft-config",
        story="The base model and a LoraConfig go to DPOTrainer, which prepares it, attaches the adapters, and takes "
        "the model without them as its reference.",
        correct=True,
        subject=Subject.ADAPTER,
        expects={**_ATTACHED_BY_TRAINER, Stage.PEFT: Expect.ADAPTER},
        handed_over=False,
        refusal=None,
        variants=_both_gc(QWEN2, (Precision.NF4, Precision.FULL)),
        objective=Objective.PREFERENCE,
        row_labels=(COMPLETION_WORDS + 1,),
        since="0.9.2",  # with DPOConfig
    ),
)


def lora_of(flow: Flow, model: str) -> LoraShape:
    """The LoRA configuration of `flow` on the model called `model`, which is that of text models if it is not ours."""
    return flow.lora or (MODELS[model].lora if model in MODELS else LORA)


DEEP_CELLS: tuple[tuple[str, Variant], ...] = (
    # The documented way in each precision, with checkpointing and without: what every other flow shares.
    ("sft-peft-config", Variant(QWEN2, Precision.NF4, True)),
    ("sft-peft-config", Variant(QWEN2, Precision.INT8, True)),
    ("sft-peft-config", Variant(QWEN2, Precision.FULL, True)),
    ("sft-peft-config", Variant(QWEN2, Precision.FULL, False)),
    # The labels come from a collator of the user's own, and the forward was late to take the number of a step's labels.
    ("sft-peft-config", Variant(QWEN2_VL, Precision.NF4, True)),
    ("sft-peft-config", Variant(QWEN2_VL, Precision.FULL, False)),
    # Handed over as a PeftModel, the trainer must see through it to know what the base model's loss takes.
    ("sft-peft-model", Variant(QWEN2, Precision.NF4, True)),
    ("sft-peft-model", Variant(QWEN2, Precision.INT8, True)),
    ("sft-peft-model", Variant(QWEN2, Precision.FULL, False)),
    # Without biases, by another class of model and attention.
    ("sft-peft-config", Variant(LLAMA, Precision.FULL, False)),
    # As the field notes' second project: every linear layer, without dropout, with checkpointing on weights that need
    # no preparation for it.
    ("sft-all-linear", Variant(QWEN2, Precision.FULL, True)),
    # The same without TRL: a deviation of both is Transformers', of one alone TRL's.
    ("trainer-peft-model", Variant(QWEN2, Precision.NF4, True)),
    ("trainer-peft-model", Variant(QWEN2, Precision.FULL, False)),
    # The same without PEFT.
    ("sft-full", Variant(QWEN2, Precision.FULL, True)),
    ("sft-full", Variant(QWEN2, Precision.FULL, False)),
)
"""The cells that the deep tier measures in more ways, by flow and variant."""


SWEPT_CELLS: tuple[tuple[str, Variant], ...] = (
    ("sft-peft-config", Variant(QWEN2, Precision.FULL, False)),
    ("sft-peft-config", Variant(LLAMA, Precision.FULL, False)),
    # As on an accelerator: 4-bit weights, prepared by the trainer, activations computed again.
    ("sft-peft-config", Variant(QWEN2, Precision.NF4, True)),
)
"""The cheap cells with which the learning test is calibrated, by flow and variant."""


def flow_named(name: str) -> Flow:
    """The flow called `name`.

    Raises:
        UnknownName: there is no such flow; the message lists those there are.
    """
    for flow in CATALOG:
        if flow.name == name:
            return flow
    raise UnknownName(
        f"there is no flow {name!r}",
        meaning="A results file of a newer harness, or a misspelt name.",
        todo=f"The flows are: {', '.join(flow.name for flow in CATALOG)}.",
    )


def cells_on(device: DeviceKind) -> tuple[tuple[Flow, Variant], ...]:
    """All flow x variant pairs of a device, in catalog order. Plain CPU placement of 4-bit weights exists on a CPU
    only.
    """
    return tuple(
        (flow, variant)
        for flow in CATALOG
        for variant in flow.variants
        if device is DeviceKind.CPU or variant.precision is not Precision.NF4_PLAIN
    )


def cells_with(model: str, device: DeviceKind) -> tuple[tuple[Flow, Variant], ...]:
    """All flows in the variants that the tiny Qwen2 has of each, with `model` in its place."""
    return tuple((flow, replace(variant, model=model)) for flow, variant in cells_on(device) if variant.model == QWEN2)
