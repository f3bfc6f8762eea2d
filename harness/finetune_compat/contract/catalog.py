"""The catalog: all flows, and what a user is entitled to expect of each. It is written before anything runs.

A flow is a value here plus one file in `harness/finetune_compat/cell/flows/`. No torch.

Entitlement is the user's view, not the library's: a trainer either trains the model that it receives, or refuses with
an error that gives the reason. A flow that silently trains nothing is a deviation in every version, even if the
maintainers call it intended. It is then listed in `matrices/known-issues.toml`.
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
"""Number of rows in the step that the deep tier computes at once and one by one."""

ROW_WORDS = 24
"""Number of words in a row of data; each word is one token with a label."""

COMPLETION_WORDS = 14
"""Number of words after the prompt, if a flow's data have one. These words and an end token have labels."""


class Expect(StrEnum):
    """How many parameters a user is entitled to find trainable at a stage."""

    UNQUANTIZED = "every parameter that is not quantized"
    NONE = "none"
    ADAPTER = "exactly the adapters"
    EVERYTHING = "every parameter"


class Objective(StrEnum):
    """What a flow's trainer optimises. The objective determines data, arguments and labels (`module`), and which losses
    are plausible (`finetune_compat.checks.objectives`).
    """

    SFT = "sft"
    PREFERENCE = "preference"
    UNPAIRED = "unpaired"
    """Preference without pairs: each completion is desirable or not."""
    ONLINE = "online"
    """Completions that the model generates in training, and a reward for each."""
    LEAVE_ONE_OUT = "leave_one_out"
    """As online, with the other completions of a prompt as the baseline."""
    ODDS_RATIO = "odds_ratio"
    """Preference without a reference model: next-token prediction, and higher odds of the chosen completion."""
    CONTRASTIVE = "contrastive"
    """Preference without a reference model: next-token prediction, and a higher likelihood of the chosen completion."""
    REWARD = "reward"
    """A score for each sequence, higher for the chosen one of two."""
    PLAIN = "plain"
    """Next-token prediction by `transformers.Trainer`, without TRL."""

    @property
    def module(self) -> str:
        """Name of the objective's module on the cell side."""
        return f"finetune_compat.cell.objectives.{self}"


class Head(StrEnum):
    """What the model of a flow has behind its last layer."""

    TOKENS = "tokens"
    """Logits of the next token."""
    SCORE = "score"
    """One number for a sequence. The head is new, so adapters alone are not enough: PEFT trains and saves a copy of it
    (`modules_to_save`), which counts as part of the adapter.
    """


class Extra(StrEnum):
    """What a LoRA configuration trains besides `lora_A` and `lora_B`. It counts as part of the adapter."""

    NOTHING = "nothing"
    MAGNITUDES = "magnitudes"
    """DoRA: a number for each output of an adapted layer."""
    MODULES = "modules"
    """Copies of the embedding and of the head (`modules_to_save`)."""
    TOKENS = "tokens"
    """Rows of the embedding, one for each of `TRAINED_TOKENS`."""


class Method(StrEnum):
    """The PEFT method of a flow's adapter, by what it trains."""

    LORA = "lora"
    """Two matrices on each target."""
    IA3 = "ia3"
    """A factor for each output of a target, or for each input where it is one of `FEED_FORWARD`."""
    VERA = "vera"
    """A factor for each output and each rank of a target; its two random matrices are shared and frozen."""


class Subject(StrEnum):
    """What a flow trains."""

    ADAPTER = "adapter"
    MODEL = "model"


class Tier(StrEnum):
    """How much is measured."""

    DEFAULT = "default"
    """The cells that tell the measured releases apart, and every cell of what was not measured."""
    FULL = "full"
    """Every cell once."""
    DEEP = "deep"
    """Every cell once, and the extra measurements of `DEEP_CELLS`."""
    DEEP_ONLY = "deep-only"
    """Only `DEEP_CELLS`, with the extra measurements."""


class Handicap(StrEnum):
    """A change that prevents a flow from learning, fully or nearly. It is used to calibrate the learning test."""

    FROZEN = "frozen"
    """Every step is undone."""
    WANDERING = "wandering"
    """Every step keeps its size but has a random direction."""
    HUNDREDTH = "learning rate / 100"
    ONE_LAYER = "one live layer"
    """Steps are undone except in the first layer."""
    ONE_CLASS = "one live class"
    """Steps are undone except in `lora_B` of `q_proj`; the flow must train adapters."""


@dataclass(frozen=True, slots=True)
class Flow:
    """One fine-tuning script, and what its user is entitled to."""

    name: str
    story: str
    """What the script does, in one sentence."""
    correct: bool
    """Whether the libraries document this usage. The entitlement holds either way."""
    subject: Subject
    expects: dict[Stage, Expect]
    """Expected trainable parameters by stage. A stage without an entry is not judged."""
    handed_over: bool
    """Whether adapters exist before the trainer is built. The trainer must then keep their values."""
    refusal: str | None
    """A ValueError in the trainer's constructor is a valid refusal if its message has this text. None: no error is."""
    variants: tuple[Variant, ...]
    objective: Objective = Objective.SFT
    lora: LoraShape | None = None
    """The flow's own LoRA configuration; None: the model's. Other methods take rank and targets from it."""
    row_labels: tuple[int, ...] = (ROW_WORDS, ROW_WORDS + 1)
    """Allowed numbers of label tokens in a sequence. Releases differ in whether they append an end token."""
    since: str = "0"
    """First TRL release that supports the flow."""
    since_peft: str = "0"
    """First PEFT release that supports the flow."""
    trained_before: bool = False
    """Whether the adapter that is handed over was trained before, so that it has an effect when training begins."""
    head: Head = Head.TOKENS
    extra: Extra = Extra.NOTHING
    method: Method = Method.LORA

    @property
    def module(self) -> str:
        """Name of the flow's module."""
        return f"finetune_compat.cell.flows.{self.name.replace('-', '_')}"


QWEN2, LLAMA = "qwen2", "llama"
QWEN2_VL, QWEN2_VL_VISION = "qwen2-vl", "qwen2-vl+vision"
QWEN2_5_VL, QWEN2_5_VL_VISION = "qwen2.5-vl", "qwen2.5-vl+vision"

LORA = LoraShape(
    r=8,
    alpha=16,
    dropout=0.05,  # a typical value: the training loss of a frozen run then varies without a trend
    target_modules=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
)


@dataclass(frozen=True, slots=True)
class TinyModel:
    """A tiny model, and its LoRA configuration."""

    shape: ModelShape
    lora: LoraShape
    since: str
    """First Transformers release with this architecture: the earliest whose wheel has its module."""


# Tiny, but with all relevant features: grouped key/value heads, a gated MLP, biases for Qwen2 and none for Llama, and
# linear layers with a multiple of bitsandbytes' 64-element blocks.
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
    # In Qwen2-VL, the names in LORA exist only in the language model.
    QWEN2_VL: TinyModel(_VL, LORA, "4.45.0"),
    QWEN2_VL_VISION: TinyModel(
        _VL, replace(LORA, target_modules=(*LORA.target_modules, "qkv", "fc1", "fc2")), "4.45.0"
    ),
    # In Qwen2.5-VL, layers of the vision encoder are also called gate_proj, up_proj and down_proj.
    QWEN2_5_VL: TinyModel(_VL_2_5, replace(LORA, language_only=True), "4.49.0"),
    QWEN2_5_VL_VISION: TinyModel(_VL_2_5, replace(LORA, target_modules=(*LORA.target_modules, "qkv")), "4.49.0"),
}

STEPS = 10
"""Default number of training steps of a cell. Eval loss of a healthy tiny model falls by 13 % or more in them."""

BATCH_ROWS = 8
"""Rows of a training step."""

MAY_DROP = frozenset({"loss_type"})
"""Options that may be missing without changing a cell: before TRL 0.23 the only loss is the requested one."""

LEARNING_RATE = {Subject.ADAPTER: 1e-2, Subject.MODEL: 2e-3}
"""Large, so that ten steps are enough. Adapters need more, because they start with zero effect."""

REAL_LEARNING_RATE = {Subject.ADAPTER: 2e-4, Subject.MODEL: 2e-5}
"""Typical learning rates for real weights."""

_FOUR = (Precision.NF4, Precision.NF4_PLAIN, Precision.INT8, Precision.FULL)
_QUANTIZED = (Precision.NF4, Precision.NF4_PLAIN, Precision.INT8)
_THREE = (Precision.NF4, Precision.INT8, Precision.FULL)


def _both_gc(model: str, precisions: tuple[Precision, ...]) -> tuple[Variant, ...]:
    return tuple(Variant(model, precision, gc) for precision in precisions for gc in (True, False))


_BF16 = (Variant(QWEN2, Precision.NF4_BF16, True), Variant(QWEN2, Precision.BF16, False))
"""The usual QLoRA and LoRA on an accelerator, where users train in bfloat16."""

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

TRAINED_TOKENS = (0, 1, 2)
"""Tokens whose rows of the embedding a flow trains. They occur in its data."""

FEED_FORWARD = "down_proj"
"""The target whose inputs IA3 scales, as PEFT's documentation does it for Llama."""

GENERATIONS = 2
"""Completions that a flow with a reward generates for each prompt."""

GENERATED_TOKENS = 2
"""Largest number of tokens in such a completion; the end token may come earlier. Few, so that a reward says which of
them was good: with 8, ten steps raised the expected reward from 0.503 to 0.514, with 2 to 0.527.
"""

_WITHOUT_DROPOUT = replace(LORA, dropout=0.0)
"""For methods that have none, and for scores: a step has two forwards or one, and releases differ in whether the
trainer switches dropout off.
"""

_N4 = (
    Variant(QWEN2, Precision.NF4, True),
    Variant(QWEN2, Precision.INT8, True),
    Variant(QWEN2, Precision.FULL, True),
    Variant(QWEN2, Precision.FULL, False),
)
"""The variants of the field notes' second project. Fewer, because its flows differ in data instead."""

_TWO = (Variant(QWEN2, Precision.NF4, True), Variant(QWEN2, Precision.FULL, False))
"""Quantized weights, which a trainer prepares, and full weights, which it leaves alone."""

_ATTACHED_BY_TRAINER = {
    Stage.LOAD: Expect.UNQUANTIZED,
    Stage.TRAINER: Expect.ADAPTER,
    Stage.AFTER_TRAINING: Expect.ADAPTER,
    Stage.RELOAD: Expect.ADAPTER,
}
_ATTACHED_BY_USER = {**_ATTACHED_BY_TRAINER, Stage.PEFT: Expect.ADAPTER}
_PREPARED_BY_USER = {**_ATTACHED_BY_USER, Stage.PREPARE: Expect.NONE}

_DOCUMENTED = Flow(
    name="sft-peft-config",
    story="The base model and a LoraConfig go to SFTTrainer, which prepares it and attaches the adapters.",
    correct=True,
    subject=Subject.ADAPTER,
    expects={**_ATTACHED_BY_TRAINER, Stage.PEFT: Expect.ADAPTER},
    handed_over=False,
    refusal=None,
    variants=_both_gc(QWEN2, _FOUR) + _LLAMA_MAIN + _VISION_MAIN + _BF16,
)
"""The usage that the libraries document; other flows with peft_config differ from it in some fields."""

_WRAPPED = Flow(
    name="sft-peft-model",
    story="The user prepares and wraps the model, and passes the PeftModel to SFTTrainer without peft_config.",
    correct=False,
    subject=Subject.ADAPTER,
    expects=_PREPARED_BY_USER,
    handed_over=True,
    refusal=None,
    variants=_both_gc(QWEN2, _FOUR) + _LLAMA_MAIN + _VISION_MAIN + _BF16,
)
"""Other flows in which the user wraps the model differ from it in some fields."""

CATALOG: tuple[Flow, ...] = (
    _DOCUMENTED,
    _WRAPPED,
    Flow(
        name="sft-peft-model-unprepared",
        story="The user wraps a quantized model without preparing it, and passes the PeftModel to SFTTrainer.",
        correct=False,
        subject=Subject.ADAPTER,
        expects=_ATTACHED_BY_USER,
        handed_over=True,
        refusal=None,
        variants=_both_gc(QWEN2, _QUANTIZED),
    ),
    replace(
        _WRAPPED,
        name="sft-peft-model-and-config",
        story="SFTTrainer gets a PeftModel that was trained before, and the same LoraConfig as peft_config.",
        trained_before=True,
        refusal="together with a `peft_config`",
        variants=_both_gc(QWEN2, _THREE),
    ),
    replace(
        _DOCUMENTED,
        name="sft-inference-mode-config",
        story="The LoraConfig for SFTTrainer is read from a saved adapter and still has inference_mode=True.",
        correct=False,
        refusal="inference_mode",
        variants=_both_gc(QWEN2, _THREE),
    ),
    replace(
        _WRAPPED,
        name="sft-adapter-reload-frozen",
        story="A saved adapter is loaded with the defaults of PeftModel.from_pretrained, and passed to SFTTrainer.",
        trained_before=True,
        refusal="is_trainable",
        variants=_both_gc(QWEN2, _THREE),
    ),
    replace(
        _WRAPPED,
        name="sft-adapter-reload-trainable",
        story="A saved adapter is loaded with is_trainable=True and passed to SFTTrainer to train on.",
        correct=True,
        trained_before=True,
        variants=_both_gc(QWEN2, _THREE),
    ),
    replace(
        _WRAPPED,
        name="sft-adapter-reload-edited",
        story="A saved adapter is loaded after its file was edited to inference_mode=false, with train() and "
        "enable_input_require_grads(), and passed to SFTTrainer.",
        trained_before=True,
        refusal="is_trainable",
        variants=_both_gc(QWEN2, _THREE),
    ),
    replace(
        _DOCUMENTED,
        name="sft-all-linear",
        story="LoRA on all linear layers with alpha = 4r and no dropout, attached by SFTTrainer.",
        variants=_N4,
        lora=_ALL_LINEAR,
    ),
    replace(
        _DOCUMENTED,
        name="rft-all-linear",
        story="LoRA on all linear layers, on rows that the user tokenized, with labels only on the completion.",
        variants=_N4,
        lora=_ALL_LINEAR,
        row_labels=(COMPLETION_WORDS + 1,),
        since="0.8.0",  # with skip_prepare_dataset; before, SFTTrainer tokenizes whatever it is given
    ),
    replace(
        _DOCUMENTED,
        name="rft-labels-masked",
        story="LoRA on rows that the user tokenized, whose mask found no completion: every label is -100.",
        correct=False,
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
        variants=(
            *_both_gc(QWEN2, (Precision.FULL,)),
            Variant(LLAMA, Precision.FULL, True),
            Variant(QWEN2, Precision.BF16, False),
        ),
    ),
    replace(
        _WRAPPED,
        name="trainer-peft-model",
        story="The user prepares and wraps the model, and trains it with transformers.Trainer, without TRL.",
        correct=True,
        variants=_both_gc(QWEN2, _FOUR) + _BF16,
        objective=Objective.PLAIN,
    ),
    replace(
        _DOCUMENTED,
        name="dpo-peft-config",
        story="The base model and a LoraConfig go to DPOTrainer, which prepares it, attaches the adapters, and takes "
        "the model without them as its reference.",
        variants=_both_gc(QWEN2, (Precision.NF4, Precision.FULL)) + _BF16,
        objective=Objective.PREFERENCE,
        row_labels=(COMPLETION_WORDS + 1,),
        since="0.9.2",  # with DPOConfig
    ),
    replace(
        _WRAPPED,
        name="dpo-peft-model",
        story="The user prepares and wraps the model, and passes the PeftModel to DPOTrainer without peft_config.",
        correct=True,
        variants=_TWO,
        objective=Objective.PREFERENCE,
        row_labels=(COMPLETION_WORDS + 1,),
        since="0.9.2",  # with DPOConfig
    ),
    replace(
        _DOCUMENTED,
        name="kto-peft-config",
        story="The base model and a LoraConfig go to KTOTrainer, which prepares it, attaches the adapters, and takes "
        "the model without them as its reference.",
        variants=_TWO,
        objective=Objective.UNPAIRED,
        row_labels=(COMPLETION_WORDS + 1,),
        since="0.8.1",  # with KTOConfig
    ),
    replace(
        _WRAPPED,
        name="kto-peft-model",
        story="The user prepares and wraps the model, and passes the PeftModel to KTOTrainer without peft_config.",
        correct=True,
        variants=_TWO,
        objective=Objective.UNPAIRED,
        row_labels=(COMPLETION_WORDS + 1,),
        since="0.8.1",  # with KTOConfig
    ),
    replace(
        _DOCUMENTED,
        name="grpo-peft-config",
        story="The base model and a LoraConfig go to GRPOTrainer with a reward function; the trainer attaches the "
        "adapters, and takes the model without them as its reference.",
        variants=_TWO,
        objective=Objective.ONLINE,
        row_labels=(1, GENERATED_TOKENS),
        since="0.18.0",  # with loss_type; 0.16.1 has another loss, and generates in compute_loss
    ),
    replace(
        _WRAPPED,
        name="grpo-peft-model",
        story="The user prepares and wraps the model, and passes the PeftModel to GRPOTrainer without peft_config.",
        correct=True,
        variants=(*_both_gc(QWEN2, (Precision.NF4,)), Variant(QWEN2, Precision.FULL, False)),
        objective=Objective.ONLINE,
        row_labels=(1, GENERATED_TOKENS),
        since="0.18.0",  # with loss_type; 0.16.1 has another loss, and generates in compute_loss
    ),
    replace(
        _DOCUMENTED,
        name="reward-peft-config",
        story="A model with a new score head and a LoraConfig that saves the head go to RewardTrainer, which prepares "
        "the model and attaches the adapters.",
        variants=(
            Variant(QWEN2, Precision.NF4, True),
            Variant(QWEN2, Precision.NF4_BF16, True),
            Variant(QWEN2, Precision.FULL, False),
        ),
        objective=Objective.REWARD,
        lora=_WITHOUT_DROPOUT,
        row_labels=(1,),
        since="0.7.11",  # with RewardConfig, which 0.7.2 does not have
        head=Head.SCORE,
    ),
    replace(
        _WRAPPED,
        name="reward-peft-model",
        story="The user prepares and wraps a model with a new score head, and passes the PeftModel to RewardTrainer "
        "without peft_config.",
        correct=True,
        variants=(*_both_gc(QWEN2, (Precision.NF4,)), Variant(QWEN2, Precision.FULL, False)),
        objective=Objective.REWARD,
        lora=_WITHOUT_DROPOUT,
        row_labels=(1,),
        since="0.7.11",  # with RewardConfig, which 0.7.2 does not have
        head=Head.SCORE,
    ),
    replace(
        _DOCUMENTED,
        name="rloo-peft-config",
        story="The base model and a LoraConfig go to RLOOTrainer with a reward function; the trainer attaches the "
        "adapters, and takes the model without them as its reference.",
        variants=_TWO,
        objective=Objective.LEAVE_ONE_OUT,
        row_labels=(1, GENERATED_TOKENS),
        since="0.22.0",  # with reward_funcs; before, it took a policy, a reference and a reward model
    ),
    replace(
        _DOCUMENTED,
        name="orpo-peft-config",
        story="The base model and a LoraConfig go to ORPOTrainer, which attaches the adapters and needs no reference.",
        variants=_TWO,
        objective=Objective.ODDS_RATIO,
        row_labels=(COMPLETION_WORDS + 1,),
        since="0.9.2",  # with DPOConfig, because its rows are those of DPO
    ),
    replace(
        _DOCUMENTED,
        name="cpo-peft-config",
        story="The base model and a LoraConfig go to CPOTrainer, which attaches the adapters and needs no reference.",
        variants=_TWO,
        objective=Objective.CONTRASTIVE,
        row_labels=(COMPLETION_WORDS + 1,),
        since="0.9.2",  # with DPOConfig, because its rows are those of DPO
    ),
    replace(
        _WRAPPED,
        name="dpo-adapter-named",
        story="As dpo-peft-model, with an adapter that is not called `default`.",
        correct=True,
        variants=(Variant(QWEN2, Precision.FULL, False),),
        objective=Objective.PREFERENCE,
        row_labels=(COMPLETION_WORDS + 1,),
        since="0.9.2",  # with DPOConfig
    ),
    replace(
        _DOCUMENTED,
        name="sft-dora",
        story="A LoraConfig with use_dora=True goes to SFTTrainer, which attaches the adapters.",
        variants=_TWO,
        extra=Extra.MAGNITUDES,
    ),
    replace(
        _DOCUMENTED,
        name="sft-modules-to-save",
        story="A LoraConfig whose modules_to_save names the embedding and the head goes to SFTTrainer.",
        variants=_TWO,
        extra=Extra.MODULES,
    ),
    replace(
        _DOCUMENTED,
        name="sft-trainable-tokens",
        story="A LoraConfig with trainable_token_indices, as for new tokens, goes to SFTTrainer.",
        variants=_TWO,
        extra=Extra.TOKENS,
        since_peft="0.15.0",  # with trainable_token_indices
    ),
    replace(
        _DOCUMENTED,
        name="sft-defaults",
        story="The base model, data and a LoraConfig go to SFTTrainer; loss, packing, collator and checkpointing are "
        "its defaults.",
        variants=(Variant(QWEN2, Precision.NF4, False), Variant(QWEN2, Precision.FULL, False)),
        since="0.12.0",  # with `text` as the default column
    ),
    replace(
        _DOCUMENTED,
        name="sft-rslora",
        story="A LoraConfig with use_rslora=True goes to SFTTrainer, which attaches the adapters.",
        variants=(Variant(QWEN2, Precision.FULL, False),),
        since_peft="0.7.0",
    ),
    replace(
        _DOCUMENTED,
        name="sft-pissa",
        story="A LoraConfig with PiSSA goes to SFTTrainer, which saves a checkpoint during training.",
        variants=(Variant(QWEN2, Precision.FULL, False),),  # PEFT documents that quantized weights are refused
        since_peft="0.11.0",
    ),
    replace(
        _DOCUMENTED,
        name="sft-ia3",
        story="An IA3Config goes to SFTTrainer, which attaches its factors.",
        variants=_TWO,
        method=Method.IA3,
        lora=_WITHOUT_DROPOUT,
        since_peft="0.4.0",
    ),
    replace(
        _DOCUMENTED,
        name="sft-vera",
        story="A VeraConfig goes to SFTTrainer, which attaches its factors.",
        variants=_TWO,
        method=Method.VERA,
        lora=replace(_WITHOUT_DROPOUT, target_modules=("q_proj", "o_proj")),
        since_peft="0.14.0",  # the first with quantized weights
    ),
    replace(
        _WRAPPED,
        name="trainer-add-adapter",
        story="Transformers itself adds the adapter with model.add_adapter, and transformers.Trainer trains the model.",
        correct=True,
        variants=_TWO,
        objective=Objective.PLAIN,
    ),
)


def lora_of(flow: Flow, model: str) -> LoraShape:
    """The LoRA configuration of `flow` on `model`. A model that is not in `MODELS` gets the one of text models."""
    return flow.lora or (MODELS[model].lora if model in MODELS else LORA)


DEEP_CELLS: tuple[tuple[str, Variant], ...] = (
    # The documented usage in each precision, with and without checkpointing. Every other flow shares its code.
    ("sft-peft-config", Variant(QWEN2, Precision.NF4, True)),
    ("sft-peft-config", Variant(QWEN2, Precision.INT8, True)),
    ("sft-peft-config", Variant(QWEN2, Precision.FULL, True)),
    ("sft-peft-config", Variant(QWEN2, Precision.FULL, False)),
    # A user's collator makes the labels, and the forward accepted the number of a step's labels only in later releases.
    ("sft-peft-config", Variant(QWEN2_VL, Precision.NF4, True)),
    ("sft-peft-config", Variant(QWEN2_VL, Precision.FULL, False)),
    # The trainer must unwrap the PeftModel to find the arguments of the base model's loss.
    ("sft-peft-model", Variant(QWEN2, Precision.NF4, True)),
    ("sft-peft-model", Variant(QWEN2, Precision.INT8, True)),
    ("sft-peft-model", Variant(QWEN2, Precision.FULL, False)),
    # Without biases, with another model class and attention class.
    ("sft-peft-config", Variant(LLAMA, Precision.FULL, False)),
    # As in the field notes' second project: every linear layer, no dropout, and checkpointing on unprepared weights.
    ("sft-all-linear", Variant(QWEN2, Precision.FULL, True)),
    # The same without TRL: a deviation with and without TRL is in Transformers, a deviation only with TRL is in TRL.
    ("trainer-peft-model", Variant(QWEN2, Precision.NF4, True)),
    ("trainer-peft-model", Variant(QWEN2, Precision.FULL, False)),
    # The same without PEFT.
    ("sft-full", Variant(QWEN2, Precision.FULL, True)),
    ("sft-full", Variant(QWEN2, Precision.FULL, False)),
)
"""The cells with extra measurements in the deep tier, by flow and variant."""


TRACED_CELLS: tuple[tuple[str, Variant], ...] = (
    # Weights that the trainer prepares, and weights that it must leave alone: as on a GPU, as on a CPU, in 8 bits.
    *(
        (flow, Variant(QWEN2, precision, True))
        for flow in ("sft-peft-config", "sft-peft-model")
        for precision in (Precision.NF4, Precision.NF4_PLAIN, Precision.INT8)
    ),
    # In bfloat16, with TRL and without it.
    ("sft-peft-config", Variant(QWEN2, Precision.NF4_BF16, True)),
    ("trainer-peft-model", Variant(QWEN2, Precision.NF4_BF16, True)),
    # Without PEFT, and with another trainer.
    ("sft-full", Variant(QWEN2, Precision.FULL, False)),
    ("dpo-peft-config", Variant(QWEN2, Precision.NF4, True)),
)
"""The cells whose device-dependent branches are recorded, by flow and variant."""


SWEPT_CELLS: tuple[tuple[str, Variant], ...] = (
    ("sft-peft-config", Variant(QWEN2, Precision.FULL, False)),
    ("sft-peft-config", Variant(LLAMA, Precision.FULL, False)),
    # As on an accelerator: 4-bit weights, prepared by the trainer, recomputed activations.
    ("sft-peft-config", Variant(QWEN2, Precision.NF4, True)),
)
"""The cheap cells for the calibration of the learning test, by flow and variant."""


def flow_named(name: str) -> Flow:
    """The flow called `name`.

    Raises:
        UnknownName: there is no such flow; the message lists all flows.
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
    """All flow x variant pairs of a device, in catalog order. The variants `nf4-plain` exist only on a CPU."""
    return tuple(
        (flow, variant)
        for flow in CATALOG
        for variant in flow.variants
        if device is DeviceKind.CPU or variant.precision is not Precision.NF4_PLAIN
    )


def cells_with(model: str, device: DeviceKind) -> tuple[tuple[Flow, Variant], ...]:
    """All flow x variant pairs of the tiny Qwen2, with `model` in its place. Flows with another head, or with
    adapters of another size, are left out: their sizes follow from the shape of a tiny model only.
    """
    return tuple(
        (flow, replace(variant, model=model))
        for flow, variant in cells_on(device)
        if variant.model == QWEN2 and _has_given_sizes(flow)
    )


def _has_given_sizes(flow: Flow) -> bool:
    return (flow.head, flow.extra, flow.method) == (Head.TOKENS, Extra.NOTHING, Method.LORA)
