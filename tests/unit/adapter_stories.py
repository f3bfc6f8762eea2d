"""Saved adapters that a check must report, and adapters that it must not, by code."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from adapters import CONFIG, LAYER, PREFIX, Q0, Q1, TARGETS, V0, V1, Array, modules, tensors, update, values, write
from finetune_compat.inspect.case import Case
from finetune_compat.inspect.checks import ENGINE
from finetune_compat.inspect.findings import Finding, findings_of
from finetune_compat.inspect.loading import Loading
from finetune_compat.inspect.saved import read_adapter

Tensors = dict[str, Array]
EMBED = "model.embed_tokens"


@dataclass(frozen=True)
class Example:
    """An adapter and the message of a check; `sentence` None means no message."""

    code: str
    about: str
    sentence: str | None
    arrays: Tensors
    config: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.code}-{self.about}"


def case(code: str, about: str, sentence: str | None, arrays: Tensors | None = None, /, **config: Any) -> Example:
    """Make a case; without tensors it has the healthy adapter's."""
    return Example(code, about, sentence, tensors() if arrays is None else arrays, config)


def factor(module: str, which: str) -> str:
    """Return the full name of a factor."""
    return f"{PREFIX}{module}.lora_{which}.weight"


def changed(change: Callable[[Array], Array], *names: str) -> Tensors:
    """Return the healthy tensors, with these changed."""
    arrays = tensors()
    return {name: change(array) if name in names else array for name, array in arrays.items()}


def without(*parts: str) -> Tensors:
    """Return the healthy tensors without those whose name contains one of these."""
    return {name: array for name, array in tensors().items() if not any(part in name for part in parts)}


def renamed(pattern: str, by: str) -> Tensors:
    """Return the healthy tensors under other names."""
    return {re.sub(pattern, by, name): array for name, array in tensors().items()}


def with_value(value: float, *names: str) -> Tensors:
    """Replace one element of each of these tensors."""

    def put(array: Array) -> Array:
        array = array.copy()
        array.flat[-1] = value
        return array

    return changed(put, *names)


def whole(*names: str) -> Tensors:
    """Return the healthy tensors and some that are saved whole."""
    return tensors() | {f"{PREFIX}{name}": values(3) for name in names}


def embedding(a: Array | None = None) -> Tensors:
    """Return the healthy tensors and an adapted embedding."""
    factors = {"A": values(2, 9) if a is None else a, "B": values(6, 2)}
    return tensors() | {f"{PREFIX}{EMBED}.lora_embedding_{key}": array for key, array in factors.items()}


def of_modules(*names: str) -> Tensors:
    """Return a trained adapter of these modules."""
    return {name: array for seed, module in enumerate(names, 1) for name, array in update(module, seed).items()}


def magnitudes(*names: str) -> Tensors:
    """Return the healthy tensors, with a magnitude in these modules."""
    vectors = {f"{PREFIX}{module}.lora_magnitude_vector": values(6, seed=i) for i, module in enumerate(names)}
    return tensors() | vectors


A0, B0, B1 = factor(Q0, "A"), factor(Q0, "B"), factor(V0, "B")
ALL_B = tuple(factor(module, "B") for module in modules())
EXPERT = "model.layers.0.mlp.experts.{}.up_proj"
EXPERTS = of_modules(EXPERT.format(0), EXPERT.format(1))
FUSED = "model.layers.0.mlp.experts"
DOWN = ["model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj"]
PARAMETERS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
FREEZES = (
    "inference_mode is true, as save_pretrained always writes it: an adapter loaded without is_trainable=True, or "
    "created from this configuration, is frozen."
)
TIED = (
    "If the base ties input embeddings to the output layer, changing {} unties them: merging and saving keeps only one "
    "of the two."
)
LOST_BIASES = "bias is lora_only, and no bias was saved: PEFT before 0.21 trains them but does not save them."

PROMPT = {"prompt_embeddings": values(8, 6)}
PROMPT_TUNING: dict[str, Any] = {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 8}
IA3 = {f"{PREFIX}{module}.ia3_l": np.ones((1, 6), np.float32) for module in (Q0, V0)}
WITH_DOWN = ["q_proj", "v_proj", "down_proj"]
MAYBE_EXCLUDED = (
    "1 target of the configuration has no tensor (down_proj): exclude_modules may exclude all their modules, which "
    "only the base shows."
)
ONE_WITHOUT = "1 target of the configuration has no tensor ({})."

STORIES = (
    case("S101", "as saved", FREEZES, inference_mode=True),
    case("S101", "of another method", FREEZES, peft_type="IA3", inference_mode=True),
    case("S101", "set right", None, inference_mode=False),
    case("S101", "a prompt: that is another finding", None, PROMPT, inference_mode=True, **PROMPT_TUNING),
    case(
        "S102",
        "alpha is zero",
        "The scaling of all 4 modules is 0: the adapter has no effect there (model.layers.0-1.self_attn.q_proj, "
        "model.layers.0-1.self_attn.v_proj).",
        lora_alpha=0,
    ),
    case(
        "S102",
        "in one class of modules",
        "The scaling of 2 of 4 modules is 0: the adapter has no effect there (model.layers.0-1.self_attn.v_proj).",
        alpha_pattern={"v_proj": 0},
    ),
    case("S102", "alpha is small", None, lora_alpha=0.001),
    case(
        "S103",
        "a typing error",
        "2 keys of rank_pattern and alpha_pattern match no module (proj_q, layers.7.*).",
        rank_pattern={"q_proj": 2, "proj_q": 4},
        alpha_pattern={"layers.7.*": 4, "proj_q": 1},
    ),
    case("S103", "all match", None, rank_pattern={"q_proj": 2}, alpha_pattern={r"layers\.1\..*": 4}),
    case(
        "S103",
        "a parameter",
        None,
        of_modules(FUSED, f"{FUSED}.base_layer"),
        target_modules=[],
        target_parameters=PARAMETERS,
        rank_pattern={r".*\.gate_up_proj": 4},
    ),
    case(
        "S104",
        "one inside the other",
        "Names in modules_to_save are parts of other names (classifier in classifier2): PEFT before 0.15 loads one in "
        "place of the other, depending on the hash seed.",
        whole("classifier.weight", "classifier2.weight"),
        modules_to_save=["classifier", "classifier2"],
    ),
    case("S104", "classification", None, whole("score.weight"), modules_to_save=["classifier", "score"]),
    case("S105", "an adapted embedding", TIED.format(EMBED), embedding(), target_modules=["q_proj", "v_proj", EMBED]),
    case(
        "S105",
        "both saved whole",
        TIED.format(f"lm_head, {EMBED}"),
        whole("lm_head.weight", f"{EMBED}.weight"),
        modules_to_save=["lm_head", "embed_tokens"],
    ),
    case("S105", "saved for a resized vocabulary", None, whole("lm_head.weight", f"{EMBED}.weight")),
    case("S105", "a classifier", None, whole("score.weight"), modules_to_save=["score"]),
    case(
        "S105",
        "kept tied",
        None,
        whole(f"{EMBED}.weight"),
        modules_to_save=["embed_tokens"],
        ensure_weight_tying=True,
    ),
    case(
        "S106",
        "prompt tuning",
        "PROMPT_TUNING is not judged in depth: only empty tensors, NaN and infinity are checked. The file does not "
        "show whether it was trained.",
        {"prompt_embeddings": values(4, 6)},
        peft_type="PROMPT_TUNING",
    ),
    case(
        "S106",
        "IA3",
        "IA3 is not judged in depth: only empty tensors, NaN, infinity and initial values are checked.",
        {f"{PREFIX}{Q0}.ia3_l": values(6)},
        peft_type="IA3",
    ),
    case("S106", "LoRA", None),
    case(
        "S109",
        "PiSSA",
        'init_lora_weights is "pissa": updates do not start at zero, so the file does not show whether they were '
        "trained.",
        init_lora_weights="pissa",
    ),
    case(
        "S109",
        "random",
        "init_lora_weights is false: updates do not start at zero, so the file does not show whether they were "
        "trained.",
        init_lora_weights=False,
    ),
    case("S109", "gaussian", None, init_lora_weights="Gaussian"),
    case("S109", "MiCA starts at zero in A", None, init_lora_weights="mica"),
    case("S109", "another method", None, peft_type="IA3", init_lora_weights=False),
    case("S201", "nothing saved", "The file holds no tensor.", {}),
    case("S201", "one tensor", None, {A0: values(2, 6)}),
    case(
        "S202",
        "not gathered",
        "The shape of all 8 tensors is that of a shard ([0]), not of a whole tensor.",
        changed(lambda array: array.reshape(-1)[:0], *tensors()),
    ),
    case(
        "S202",
        "flat",
        "The shape of 1 of 8 tensors is that of a shard ([12]), not of a whole tensor.",
        changed(np.ravel, A0),
    ),
    case("S202", "a magnitude is flat by nature", None, magnitudes(*modules()), use_dora=True),
    case("S202", "a convolution", None, changed(lambda array: array[..., None, None], A0, B0)),
    case(
        "S203",
        "both kinds",
        "Not every value is a finite number: 1 NaN and 2 infinite in 3 of 8 tensors "
        "(model.layers.0.self_attn.q_proj.lora_A.weight, model.layers.0-1.self_attn.q_proj.lora_B.weight).",
        with_value(np.nan, A0) | {k: v for k, v in with_value(-np.inf, B0, factor(Q1, "B")).items() if "lora_B" in k},
    ),
    case(
        "S203",
        "of another method",
        "Not every value is a finite number: 1 NaN in 1 of 1 tensor (ia3_l).",
        {"ia3_l": np.array([np.nan], dtype=np.float32)},
        peft_type="IA3",
    ),
    case("S203", "large but finite", None, with_value(3e38, A0)),
    case(
        "S204",
        "never trained",
        "lora_B is exactly zero in all 4 modules, as before the first step: this adapter was never trained.",
        changed(np.zeros_like, *ALL_B),
    ),
    case(
        "S204",
        "never trained, with an embedding",
        "lora_embedding_A and lora_B are exactly zero in all 5 modules, as before the first step: this adapter was "
        "never trained.",
        embedding(np.zeros((2, 9), np.float32)) | changed(np.zeros_like, *ALL_B),
        target_modules=[*CONFIG["target_modules"], "embed_tokens"],
    ),
    case(
        "S204",
        "never trained, one module",
        "lora_B is exactly zero in 1 of 1 module, as before the first step: this adapter was never trained.",
        {name: array * ("A" in name) for name, array in update(Q0).items()},
    ),
    *(
        case("S204", f"it starts otherwise: {start}", None, changed(np.zeros_like, *ALL_B), init_lora_weights=start)
        for start in ("corda", "orthogonal", "pissa_niter_4", "olora", "loftq", "lora_ga", False)
    ),
    case("S204", "MiCA trains A alone", None, changed(np.zeros_like, *ALL_B), init_lora_weights="mica"),
    case(
        "S204",
        "never trained, MiCA",
        "lora_A is exactly zero in all 4 modules, as before the first step: this adapter was never trained.",
        changed(np.zeros_like, *[name for name in tensors() if "lora_A" in name]),
        init_lora_weights="mica",
    ),
    case(
        "S204",
        "never trained, IA3",
        "ia3_l (1) has the initial value in all 2 tensors, as before the first step: this adapter was never trained.",
        IA3,
        peft_type="IA3",
        init_ia3_weights=True,
    ),
    case(
        "S204",
        "never trained, BOFT",
        "boft_R (0) and boft_s (1) have the initial value in all 2 tensors, as before the first step: this adapter was "
        "never trained.",
        {f"{PREFIX}{Q0}.boft_R": np.zeros((2, 3), np.float32), f"{PREFIX}{Q0}.boft_s": np.ones((6, 1), np.float32)},
        peft_type="BOFT",
        init_weights=True,
    ),
    case("S204", "IA3, one module moved", None, IA3 | {f"{PREFIX}{V0}.ia3_l": values(1, 6)}, peft_type="IA3"),
    case("S204", "IA3 that does not start at 1", None, IA3, peft_type="IA3", init_ia3_weights=False),
    case("S204", "HRA starts at random values", None, {f"{PREFIX}{Q0}.hra_u": values(6, 2)}, peft_type="HRA"),
    case("S204", "one number moved", None, changed(np.zeros_like, *ALL_B) | with_value(1e-30, *ALL_B[:1])),
    case("S204", "an embedding starts at zero in A", None, embedding() | changed(np.zeros_like, *ALL_B)),
    case(
        "S205",
        "half of it",
        "The update of 2 of 4 modules is exactly zero, as before the first step (model.layers.0.self_attn.q_proj, "
        "model.layers.0.self_attn.v_proj).",
        changed(np.zeros_like, B0, B1),
    ),
    case(
        "S205",
        "the embedding alone",
        "The update of 1 of 5 modules is exactly zero, as before the first step (model.embed_tokens).",
        embedding(np.zeros((2, 9), np.float32)),
    ),
    case("S205", "it starts otherwise", None, changed(np.zeros_like, B0, B1), init_lora_weights="orthogonal"),
    case("S205", "none of it: that is another finding", None, changed(np.zeros_like, *ALL_B)),
    case("S205", "A is zero: that is another finding", None, changed(np.zeros_like, A0)),
    case("S205", "an expert: that is a note", None, EXPERTS | {factor(EXPERT.format(1), "B"): np.zeros((6, 2))}),
    case(
        "S206",
        "an expert no token reached",
        "The update of 1 of 2 expert modules is exactly zero, as before the first step "
        "(model.layers.0.mlp.experts.1.up_proj).",
        tensors() | EXPERTS | {factor(EXPERT.format(1), "B"): np.zeros((6, 2), np.float32)},
    ),
    case("S206", "all experts learnt", None, EXPERTS),
    case("S206", "a module elsewhere", None, changed(np.zeros_like, B0)),
    case(
        "S207",
        "A was wiped",
        "1 tensor holds only zeros, where training neither starts nor ends at zero "
        "(model.layers.0.self_attn.q_proj.lora_A.weight).",
        changed(np.zeros_like, A0),
    ),
    case(
        "S207",
        "so was a head",
        "1 tensor holds only zeros, where training neither starts nor ends at zero (score.weight).",
        tensors() | {f"{PREFIX}score.weight": np.zeros((3, 6), np.float32)},
        modules_to_save=["score"],
    ),
    case("S207", "B starts at zero", None, changed(np.zeros_like, B0)),
    case(
        "S207",
        "B does not start at zero",
        "4 tensors hold only zeros, where training neither starts nor ends at zero "
        "(model.layers.0-1.self_attn.q_proj.lora_B.weight, model.layers.0-1.self_attn.v_proj.lora_B.weight).",
        changed(np.zeros_like, *ALL_B),
        init_lora_weights="corda",
    ),
    case("S207", "a norm or a bias may be zero", None, tensors() | {f"{PREFIX}q.bias": np.zeros(3, np.float32)}),
    case("S207", "another method", None, {f"{PREFIX}lm_head.weight": np.zeros(3, np.float32)}, peft_type="IA3"),
    case(
        "S208",
        "one layer twice",
        "2 tensors equal another tensor byte for byte (model.layers.1.self_attn.q_proj.lora_A.weight, "
        "model.layers.1.self_attn.q_proj.lora_B.weight).",
        tensors() | {name.replace("layers.0", "layers.1"): array for name, array in update(Q0).items()},
    ),
    case("S208", "zeros are alike", None, changed(np.zeros_like, B0, B1)),
    case("S208", "another shape", None, tensors() | {factor(Q1, "A"): values(6, 2, seed=1)}),
    case(
        "S208",
        "layers meant to be alike",
        None,
        tensors() | {name.replace("layers.0", "layers.1"): array for name, array in update(Q0).items()},
        layer_replication=[[0, 1], [0, 1]],
    ),
    case(
        "S301",
        "of a compiled model",
        "The names of all 8 tensors contain _orig_mod: PEFT finds none of them.",
        renamed("^base_model.model.", "base_model.model._orig_mod."),
    ),
    case(
        "S301",
        "of a compiled PeftModel",
        "The names of all 8 tensors contain _orig_mod: PEFT finds none of them.",
        renamed("^", "_orig_mod."),
    ),
    case(
        "S301",
        "of a state_dict",
        "The names of all 8 tensors contain default: PEFT before 0.21 finds none of them.",
        renamed(r"\.weight$", ".default.weight"),
    ),
    case(
        "S301",
        "without the prefix",
        "The names of all 8 tensors lack base_model.model.: PEFT finds none of them.",
        renamed("^base_model.model.", ""),
    ),
    case(
        "S301",
        "of DistributedDataParallel",
        "The names of 4 of 8 tensors contain module and lack base_model.model.: PEFT finds none of them.",
        renamed("^base_model.model.(.*q_proj)", r"module.\1"),
    ),
    case("S301", "another method", None, {"prompt_embeddings": values(2)}, peft_type="PROMPT_TUNING"),
    case(
        "S302",
        "A alone",
        "1 module has only lora_A, without the other factor (model.layers.1.self_attn.v_proj).",
        without(f"{V1}.lora_B"),
    ),
    case(
        "S302",
        "B alone, and half an embedding",
        "3 modules have only lora_embedding_A and lora_B, without the other factor (model.embed_tokens, "
        "model.layers.0-1.self_attn.q_proj).",
        {name: array for name, array in embedding().items() if "q_proj.lora_A" not in name and name[-2:] != "_B"},
    ),
    case("S302", "whole pairs", None, embedding()),
    case(
        "S303",
        "r was edited",
        "The rank is 2 in all 4 modules where the configuration asks for 4 (model.layers.0-1.self_attn.q_proj, "
        "model.layers.0-1.self_attn.v_proj).",
        r=4,
    ),
    case(
        "S303",
        "a pattern was edited",
        "The rank is 2 in 2 of 4 modules where the configuration asks for 1 (model.layers.0-1.self_attn.v_proj).",
        rank_pattern={"v_proj": 1},
    ),
    case(
        "S303",
        "the factors disagree",
        "The rank is 2/3 in 1 of 4 modules where the configuration asks for 2 (model.layers.0.self_attn.q_proj).",
        tensors() | {B0: values(6, 3)},
    ),
    case("S303", "patterns as trained", None, tensors() | update(Q0, 7, rank=3), rank_pattern={f"{Q0}": 3}),
    case("S303", "shards have no rank", None, changed(np.ravel, A0)),
    case(
        "S303",
        "experts in one matrix",
        None,
        update(FUSED, 1, rank=8) | update(f"{FUSED}.base_layer", 2, rank=16),
        target_modules=None,
        target_parameters=PARAMETERS,
    ),
    case(
        "S303",
        "experts in two matrices that disagree",
        "The rank is 8/6 in 1 of 1 module where the configuration asks for 2 (model.layers.0.mlp.experts).",
        {factor(FUSED, "A"): values(8, 6), factor(FUSED, "B"): values(6, 6)},
        target_modules=None,
        target_parameters=PARAMETERS,
    ),
    case("S303", "block-diagonal factors", None, r=4, use_bdlora={"nblocks": 2}),
    case(
        "S304",
        "a fused projection",
        "2 targets of the configuration have no tensor (k_proj, gate_proj).",
        target_modules=["q_proj", "k_proj", "v_proj", "gate_proj"],
    ),
    case(
        "S304",
        "a layer",
        "1 target of the configuration has no tensor (model.layers.7.self_attn.q_proj).",
        target_modules=[*modules(), LAYER.format(7, "q_proj")],
    ),
    case(
        "S304",
        "an expression",
        "1 target of the configuration has no tensor (.*up_proj).",
        target_modules=".*up_proj",
    ),
    case(
        "S304",
        "a parameter",
        "1 target of the configuration has no tensor (mlp.experts.down_proj).",
        target_parameters=["mlp.experts.down_proj"],
    ),
    case("S304", "an expression that matches", None, target_modules=r".*\.[qv]_proj"),
    case("S304", "every linear layer", None, target_modules="all-linear"),
    case(
        "S304",
        "saved whole instead",
        None,
        whole("score.weight"),
        target_modules=[*CONFIG["target_modules"], "score"],
        modules_to_save=["score"],
    ),
    case("S304", "an empty file: that is another finding", None, {}),
    case("S304", "another method", None, {"ia3_l": values(2)}, peft_type="IA3"),
    case("S304", "excluded by name", None, target_modules=WITH_DOWN, exclude_modules=["down_proj"]),
    case("S304", "excluded by an expression", None, target_modules=WITH_DOWN, exclude_modules=".*_proj"),
    case(
        "S304",
        "every module excluded by its whole name",
        None,
        target_modules=[*modules(), *DOWN],
        exclude_modules=["down_proj"],
    ),
    case(
        "S304",
        "whole names excluded by an expression",
        None,
        target_modules=[*modules(), *DOWN],
        exclude_modules=r".*\.mlp\..*",
    ),
    case(
        "S304",
        "a whole name the expression does not exclude",
        ONE_WITHOUT.format(DOWN[1]),
        target_modules=[*modules(), *DOWN],
        exclude_modules=r".*\.0\.mlp\..*",
    ),
    case(
        "S304",
        "others are excluded",
        ONE_WITHOUT.format("down_proj"),
        target_modules=WITH_DOWN,
        exclude_modules=["proj", "up_proj", "mlp"],
    ),
    case("S304", "nothing is excluded", ONE_WITHOUT.format("down_proj"), target_modules=WITH_DOWN, exclude_modules=""),
    case("S304", "perhaps excluded: that is another finding", None, target_modules=WITH_DOWN, exclude_modules=DOWN),
    case(
        "S304",
        "inside what is saved whole",
        None,
        whole(*(f"{module}.weight" for module in DOWN)),
        target_modules=[*TARGETS, *DOWN],
        modules_to_save=["mlp"],
    ),
    case("S110", "every module named", MAYBE_EXCLUDED, target_modules=WITH_DOWN, exclude_modules=DOWN),
    case("S110", "an expression", MAYBE_EXCLUDED, target_modules=WITH_DOWN, exclude_modules=r".*\.mlp\..*"),
    case("S110", "certainly excluded", None, target_modules=WITH_DOWN, exclude_modules=["down_proj"]),
    case("S110", "certainly not", None, target_modules=WITH_DOWN, exclude_modules=["up_proj"]),
    case("S110", "some are excluded", None, of_modules(Q0, V0, V1), exclude_modules=[Q1]),
    case("S110", "an empty file: that is another finding", None, {}, exclude_modules=".*mlp.*"),
    case(
        "S111",
        "prompt tuning",
        "PEFT loads PROMPT_TUNING frozen, and refuses to load it with is_trainable=True.",
        PROMPT,
        **PROMPT_TUNING,
    ),
    case("S111", "another method", None, {"ia3_l": values(2)}, peft_type="IA3"),
    case(
        "S305",
        "excluded",
        "No target names, or exclude_modules excludes, 2 of 4 modules (model.layers.0-1.self_attn.v_proj).",
        exclude_modules=["v_proj"],
    ),
    case("S305", "a whole name outside the layers asked for", None, target_modules=modules(), layers_to_transform=[1]),
    case(
        "S305",
        "of another run",
        "No target names 2 of 4 modules (model.layers.0-1.self_attn.v_proj).",
        target_modules=["q_proj"],
    ),
    case(
        "S305",
        "outside the layers asked for",
        "No target names 2 of 4 modules (model.layers.1.self_attn.q_proj, model.layers.1.self_attn.v_proj).",
        layers_to_transform=[0],
    ),
    case("S305", "targets left to PEFT", None, target_modules=None),
    case(
        "S306",
        "a head was lost",
        "1 name of modules_to_save has no tensor (score).",
        modules_to_save=["score"],
    ),
    case("S306", "a model has one classifier", None, whole("score.weight"), modules_to_save=["classifier", "score"]),
    case(
        "S306",
        "a head of several layers",
        None,
        whole("classifier.dense.weight", "classifier.out_proj.bias"),
        modules_to_save=["classifier"],
    ),
    case(
        "S306",
        "no classifier at all",
        "2 names of modules_to_save have no tensor (classifier, score).",
        modules_to_save=["classifier", "score"],
    ),
    case("S306", "the end of a name", None, whole("model.layers.0.input_layernorm.weight"), modules_to_save=["norm"]),
    case(
        "S307",
        "lost on the way",
        "use_dora is true, and there is no magnitude in 2 of 4 modules (model.layers.0-1.self_attn.v_proj).",
        magnitudes(Q0, Q1),
        use_dora=True,
    ),
    case(
        "S307",
        "not asked for",
        "use_dora is false, and there is a magnitude in 1 of 4 modules (model.layers.0.self_attn.q_proj).",
        magnitudes(Q0),
    ),
    case("S307", "DoRA", None, magnitudes(*modules()), use_dora=True),
    case(
        "S308",
        "a trained norm",
        "2 weights were saved whole, although the configuration does not ask for it "
        "(model.layers.0.self_attn.q_proj.bias, model.norm.weight).",
        whole("model.norm.weight", f"{Q0}.bias"),
    ),
    case("S308", "asked for", None, whole("model.norm.weight", f"{Q0}.bias"), modules_to_save=["norm"], bias="all"),
    case(
        "S308",
        "inside what was asked for",
        None,
        whole("classifier.dense.weight", "classifier.out_proj.bias"),
        modules_to_save=["classifier"],
    ),
    case("S308", "a resized vocabulary", None, whole(f"{EMBED}.weight", "lm_head.weight")),
    case("S308", "another method", None, {"prompt_embeddings": values(2)}, peft_type="PROMPT_TUNING"),
    case("S309", "lost biases", LOST_BIASES, bias="lora_only"),
    case(
        "S309",
        "biases that were not trained",
        "bias is lora_only, and PEFT before 0.10 trains no bias: the adapter has none.",
        bias="lora_only",
        peft_version="0.9.0",
    ),
    case("S309", "saved biases", None, whole(f"{Q0}.base_layer.bias"), bias="lora_only"),
    case("S309", "no biases asked for", None, bias="none"),
)


def found(directory: Path, given: Example) -> dict[str, Finding]:
    """Return what the checks find in the adapter, by code."""
    arrays = {name: np.ascontiguousarray(array) for name, array in given.arrays.items()}
    case = Case(read_adapter(write(directory / "a", arrays, **given.config)), None)
    return {finding.code: finding for finding in findings_of(case)}


def loading(**given: Any) -> Loading:
    """An adapter that loads, with changes."""
    versions = {"peft": "0.21.2", "transformers": "5.20.0", "torch": "2.13.0"}
    facts: dict[str, Any] = {"error": "", "fitting": 8, "missing": (), "unexpected": (), "mismatched": ()}
    facts |= {"unknown_options": (), "tied": False, "untold": ""}
    return Loading("trl1.16-py311", versions, **{"base": "Qwen2ForCausalLM", **facts, **given})


def judged(directory: Path, seen: Loading, **config: Any) -> dict[str, str]:
    """Return the sentences by code."""
    arrays = None if not config else whole(f"{EMBED}.weight")
    case = Case(read_adapter(write(directory / "a", arrays, **config)), seen)
    return {finding.code: finding.sentence for finding in findings_of(case)}


def stories_of(module: ModuleType) -> list[Example]:
    """The adapters for the checks whose functions are in `module`."""
    return [given for given in STORIES if ENGINE.function(given.code).__module__ == module.__name__]
