"""All sentences and labels of a census. This module formats facts and findings, and decides nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import assert_never

from finetune_compat.census.compare import Figure, Shift
from finetune_compat.census.taken import Taken, Trainer, Way
from finetune_compat.census.verdicts import Code, TargetFinding
from finetune_compat.contract.census import ALL_LINEAR, LoadDtype, Quantization, Weight, WeightKind
from finetune_compat.contract.records import Area

NO_FINDINGS = "Every target reaches what it names."
NOTHING_CHANGES = "Nothing changes."
AT_TRAINER = "At the trainer: listed from what the matrix measured on tiny models, not measured at this size."

GIGA = 10**9

ALIKE = 0.75
"""Minimum similarity of a suggested name (difflib's ratio): `q_proj` for `qproj`, but not `v_proj` for `gate_proj`."""

MOST_PLACES = 4
"""Maximum number of paths in a sentence; the rest is counted."""

_PARTS = {
    Area.LANGUAGE: "the language model",
    Area.VISION: "the vision encoder",
    Area.PROJECTOR: "the projector",
    Area.EMBEDDING: "the embeddings",
    Area.HEAD: "the head",
    Area.NORM: "norms",
    Area.ADAPTER: "adapters",
}


def percent(part: int, whole: int, decimals: int = 4) -> str:
    """A share in percent. Default: four decimals, as PEFT prints it."""
    return f"{100 * part / whole:.{decimals}f}"


def number(count: int) -> str:
    """A count with thousands separators."""
    return f"{count:,}"


def shape(sizes: Iterable[int]) -> str:
    """The shape of a tensor as text."""
    return " x ".join(str(size) for size in sizes)


def titled(taken: Taken) -> str:
    """The title: subject, stack and model class."""
    return f"{taken.subject.title} on {taken.stack}: {taken.table.model_class}"


def request(taken: Taken) -> str:
    """Quantization, dtype and LoRA configuration of the request."""
    rest = {LoadDtype.BF16: "bf16", LoadDtype.FP32: "fp32"}[taken.dtype]
    loaded = {
        Quantization.NF4: f"NF4, the rest in {rest}",
        Quantization.INT8: f"int8, the rest in {rest}",
        Quantization.NONE: rest,
    }[taken.quantization]
    rank = taken.lora.options.get("r") or "PEFT's default"
    return f"{loaded}. LoRA r={rank} on {' '.join(taken.lora.patterns) or 'the default targets of PEFT for this model'}"


def effort(taken: Taken) -> str:
    """How the numbers were calculated."""
    return f"Counted without weights in {taken.table.work_s:.1f} s of work, from the stack's own libraries."


def way(way: Way) -> str:
    """How adapters reach the trainer."""
    match way:
        case Way.BASE:
            return "base model and peft_config"
        case Way.WRAPPED:
            return "PeftModel, no peft_config"
    assert_never(way)


def listed(trainer: Trainer) -> str:
    """The known issue of a trainer, or why the trainer was not measured; empty if there is neither."""
    if trainer.unmeasured:
        return f"not measured: {trainer.unmeasured}"
    return f"listed: {trainer.issue} {trainer.title}" if trainer.issue else ""


def shift(changed: Shift) -> str:
    """The name of a changed count."""
    match changed.figure:
        case Figure.TRAINABLE:
            return f"trainable, {changed.area}" if changed.area else "trainable"
        case Figure.ADAPTERS:
            return f"adapters on {changed.area}"
        case Figure.STORED:
            return "stored"
        case Figure.LOGICAL:
            return "logical"
    assert_never(changed.figure)


# ------------------------------------------------------------------------------------------------------------- verdicts


def sentence(finding: TargetFinding, taken: Taken) -> str:
    """The message of a finding."""
    patterns, weights = ", ".join(finding.patterns), finding.weights
    match finding.code:
        case Code.REFUSED:
            refusal = taken.table.refusal
            error = f"{refusal.type}: {refusal.message}" if refusal else ""
            return f"PEFT {taken.table.versions.get('peft', '')} refuses: {error}"
        case Code.UNMATCHED:
            return f"{patterns}: matches nothing."
        case Code.UNREACHED:
            return f"{_unreached(finding)}: {_share(finding, taken)} without an adapter."
        case Code.PARTIAL:
            return f"{patterns}: {finding.reached} of {finding.of} layers; no adapter on {_places(weights)}."
        case Code.ELSEWHERE:
            modules = sum(weight.count for weight in weights)
            trainable = sum(weight.count * weight.adapter.trainable for weight in weights if weight.adapter)
            part = _PARTS[weights[0].area]
            return f"{patterns}: also in {part}, {modules} modules with {number(trainable)} adapter parameters."
        case Code.FROZEN:
            return "The configuration has inference_mode: get_peft_model leaves every adapter frozen."
        case Code.UNQUANTIZED:
            name = {Quantization.NF4: "NF4", Quantization.INT8: "int8"}.get(taken.quantization, "")
            return (
                f"{name} is for linear layers only, unlike {_places(weights)}: {_share(finding, taken)} not quantized."
            )
    assert_never(finding.code)


def _unreached(finding: TargetFinding) -> str:
    patterns, places = ", ".join(finding.patterns), _places(finding.weights)
    if finding.patterns == (ALL_LINEAR,):
        return f"{ALL_LINEAR} leaves out {places}"
    held = "one tensor of all experts" if _stacked(finding) else "a weight of another name"
    return f"{patterns}: held in {held} here, {places}"


def _stacked(finding: TargetFinding) -> bool:
    return any(weight.kind is WeightKind.PARAMETER for weight in finding.weights)


def _share(finding: TargetFinding, taken: Taken) -> str:
    share = percent(finding.elements, taken.parameters, 1)
    return f"{number(finding.elements)} weights, {'under 0.1' if share == '0.0' else share} % of the model,"


def _places(weights: Sequence[Weight]) -> str:
    named = [weight.path for weight in weights[:MOST_PLACES]]
    more = f" and {len(weights) - MOST_PLACES} more" if len(weights) > MOST_PLACES else ""
    return ", ".join(named) + more


def advice(finding: TargetFinding, taken: Taken) -> str:
    """What to do about a finding."""
    leaves = ",".join(dict.fromkeys(weight.leaf for weight in finding.weights))
    match finding.code:
        case Code.REFUSED | Code.UNMATCHED:
            return _where_it_is(finding, taken)
        case Code.UNREACHED if _stacked(finding):
            return f"Name them as parameters: --target-parameters {_parameters(finding.weights)} (PEFT 0.17 or later)."
        case Code.UNREACHED:
            return f"Name {leaves} as well."
        case Code.PARTIAL:
            return "Extend the pattern. If only these layers are intended, set layers_to_transform."
        case Code.ELSEWHERE:
            return f"If that is not intended: {_only_language(finding, taken)}"
        case Code.FROZEN:
            return "Set inference_mode to false, or load the adapter with is_trainable=True."
        case Code.UNQUANTIZED:
            return _full_size(finding, taken)
    assert_never(finding.code)


def _full_size(finding: TargetFinding, taken: Taken) -> str:
    loaded = {LoadDtype.BF16: 2, LoadDtype.FP32: 4}[taken.dtype] * finding.elements
    return (
        f"They take {loaded / GIGA:,.0f} GB, and {4 * finding.elements / GIGA:,.0f} GB if "
        "prepare_model_for_kbit_training casts them to float32. In Transformers 4 experts are linear layers."
    )


def _where_it_is(finding: TargetFinding, taken: Taken) -> str:
    if finding.weights:
        return f"In this model it is at {_places(finding.weights)}."
    leaves = list(
        dict.fromkeys(w.leaf for w in taken.table.weights if w.kind is WeightKind.LINEAR and not w.leaf.isdigit())
    )
    near = [get_close_matches(pattern.rpartition(".")[2], leaves, n=1, cutoff=ALIKE) for pattern in finding.patterns]
    guesses = [f"{guess[0]} for {pattern}" for pattern, guess in zip(finding.patterns, near, strict=True) if guess]
    guess = f"Did you mean {', '.join(guesses)}? " if guesses else ""
    return f"{guess}The linear layers of this model are {', '.join(leaves)}."


def _parameters(weights: Sequence[Weight]) -> str:
    """The suffixes for target_parameters that match only the stacked experts."""
    return ",".join(dict.fromkeys(".".join(weight.path.split(".")[-2:]) for weight in weights))


def _only_language(finding: TargetFinding, taken: Taken) -> str:
    """How to match the same names only in the language model."""
    inside = [w for w in taken.table.weights if w.area is Area.LANGUAGE and set(w.patterns) & set(finding.patterns)]
    outside = {part for weight in finding.weights for part in weight.path.split(".")}
    own = next(part for part in inside[0].path.split(".") if part not in outside and re.fullmatch(r"\w+", part))
    if taken.lora.regex:
        return f"narrow the expression to {own}."
    return rf"--targets '.*\b{own}\b.*\.({'|'.join(taken.lora.patterns)})'"
