"""What a user means by a target, and whether the stage table does it. Pure: no torch, no files, no prose.

The rules, in the order of what explains what:

T101 refused     PEFT itself refuses the configuration. Of targets nothing else is said, since nothing was adapted.
T102 unmatched   A pattern matches nothing, or one of the names that a regular expression ends in does.
T103 unreached   A pattern names a projection that the language model holds in a weight of another name, or as one
                 tensor of all experts, and no adapter sits on that weight. `all-linear` names every matrix of a layer.
T104 partial     A pattern matches a module in some layers, and in the others the same module has no adapter.
T105 elsewhere   A pattern matches modules of the language model, and modules of another part that it does not name;
                 a regular expression also names them by spelling out what only they are called.
T106 frozen      Adapters are attached and none of them trains: the configuration says `inference_mode`.
T107 unquantized Quantization was asked for, and experts held in one tensor are stored as they were.

What a pattern names: a suffix names its last component, a regular expression every projection that is spelled out in
it. Which projections a weight holds is known by its last component (`HOLDS`). A pattern is about the parts of the model
in which it matches; one that matches nowhere is about the language model, because these names are a decoder's. A
pattern that matches nothing although every weight that holds what it names has an adapter, got what it asked for by
another name, and is not a verdict. Neither are layers left out by `layers_to_transform`, nor parts that `all-linear`
reaches into: those say what they do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from finetune_compat.census.lora import Lora
from finetune_compat.contract.census import ALL_LINEAR, AdapterKind, Quantization, StageTable, Weight, WeightKind
from finetune_compat.contract.records import Area


class Code(StrEnum):
    """A verdict on a census."""

    REFUSED = "T101"
    UNMATCHED = "T102"
    UNREACHED = "T103"
    PARTIAL = "T104"
    ELSEWHERE = "T105"
    FROZEN = "T106"
    UNQUANTIZED = "T107"


@dataclass(frozen=True, slots=True)
class TargetFinding:
    """One verdict: which rule, by which patterns, over which weights."""

    code: Code
    patterns: tuple[str, ...]
    weights: tuple[Weight, ...]
    """The weights it is about. Of T101 and T102: where what the patterns name is in this model."""
    reached: int = 0
    """Of T104: in how many layers a place it is about has an adapter."""
    of: int = 0
    """Of T104: how many layers have that place."""

    @property
    def elements(self) -> int:
        """Elements of the weights it is about, unpacked."""
        return sum(weight.elements for weight in self.weights)


class _Projection(StrEnum):
    """One matrix of a decoder layer."""

    QUERY = "query"
    KEY = "key"
    VALUE = "value"
    OUTPUT = "output"
    GATE = "gate"
    UP = "up"
    DOWN = "down"


_P = _Projection

_QKV = frozenset({_P.QUERY, _P.KEY, _P.VALUE})

HOLDS: dict[str, frozenset[_Projection]] = {
    "q_proj": frozenset({_P.QUERY}),
    "k_proj": frozenset({_P.KEY}),
    "v_proj": frozenset({_P.VALUE}),
    "o_proj": frozenset({_P.OUTPUT}),
    "out_proj": frozenset({_P.OUTPUT}),
    # Phi-3, Qwen2-VL's vision encoder, Falcon and GPT-NeoX, Baichuan, GPT-2, MPT, InternLM2.
    **dict.fromkeys(("qkv_proj", "qkv", "query_key_value", "W_pack", "c_attn", "Wqkv", "wqkv"), _QKV),
    # DeepSeek's latent attention, Qwen3-Next's linear attention.
    "q_a_proj": frozenset({_P.QUERY}),
    "q_b_proj": frozenset({_P.QUERY}),
    "kv_a_proj_with_mqa": frozenset({_P.KEY, _P.VALUE}),
    "kv_b_proj": frozenset({_P.KEY, _P.VALUE}),
    "in_proj_qkvz": _QKV,
    "gate_proj": frozenset({_P.GATE}),
    "up_proj": frozenset({_P.UP}),
    "gate_up_proj": frozenset({_P.GATE, _P.UP}),
    "down_proj": frozenset({_P.DOWN}),
    # Mixtral's experts.
    "w1": frozenset({_P.GATE}),
    "w2": frozenset({_P.DOWN}),
    "w3": frozenset({_P.UP}),
}
"""Projections of a decoder layer by the names their weights go by. Names that mean different things in different models
(`fc1`, `dense`, `proj`) are not here: nothing is concluded from them."""

STACKED = 3
"""Dimensions of a tensor that holds the same matrix of several experts."""

_EVERYWHERE = frozenset({"model", "layers", "blocks", "mlp", "self_attn", "attn"})
"""Components of paths that tell no part of a model from another."""

_LAYERS = (Area.LANGUAGE, Area.VISION, Area.PROJECTOR)
"""Areas whose matrices are layers' and meant to be quantized, unlike an embedding's and a head's."""


def findings(table: StageTable, lora: Lora, quantization: Quantization) -> tuple[TargetFinding, ...]:
    """Every verdict on `table`, which is what a stack answered when asked for `lora` and `quantization`."""
    unquantized = _unquantized(table, quantization)
    if table.refusal is not None:
        return (TargetFinding(Code.REFUSED, lora.patterns, _namesakes(table, lora.patterns)), *unquantized)
    unreached = _unreached(table, lora)
    spoken_for = {pattern for finding in unreached for pattern in finding.patterns}
    return (
        *_frozen(table),
        *_unmatched(table, lora, spoken_for),
        *unreached,
        *_partial(table, lora),
        *_elsewhere(table, lora),
        *unquantized,
    )


# ------------------------------------------------------------------------------------------------- what a pattern names


def named_by(pattern: str) -> frozenset[str]:
    """The projections spelled out in a pattern, as names of `HOLDS`."""
    return _words(pattern) & HOLDS.keys()


def _words(pattern: str) -> frozenset[str]:
    # `\b` and `\d` are not the beginnings of names.
    return frozenset(re.findall(r"[A-Za-z][A-Za-z0-9_]*", re.sub(r"\\[A-Za-z]", " ", pattern)))


def _holds(names: Iterable[str]) -> frozenset[_Projection]:
    return frozenset().union(*(HOLDS.get(name, frozenset()) for name in names))


def _matrices(table: StageTable) -> list[Weight]:
    """The weights of layers that LoRA could stand beside: linear layers, stacked experts, and routers."""
    return [weight for weight in table.weights if weight.area in _LAYERS and _is_matrix(weight)]


def _is_matrix(weight: Weight) -> bool:
    if weight.kind is WeightKind.PARAMETER:
        # Other parameters, such as positions, are no matrix anything is multiplied with. Where they have a dimension
        # more than two it is that of the batch, and is 1.
        return _is_stacked(weight) or weight.leaf == "weight"
    return weight.kind is WeightKind.LINEAR


def _is_stacked(weight: Weight) -> bool:
    return len(weight.shape) >= STACKED and min(weight.shape) > 1


def _matched(table: StageTable, pattern: str) -> list[Weight]:
    return [weight for weight in table.weights if pattern in weight.patterns]


def _about(table: StageTable, pattern: str) -> frozenset[Area]:
    return frozenset(weight.area for weight in _matched(table, pattern)) or frozenset({Area.LANGUAGE})


def _namesakes(table: StageTable, patterns: Sequence[str]) -> tuple[Weight, ...]:
    """Weights whose last component is spelled out in one of the patterns."""
    words = frozenset().union(*(_words(pattern) for pattern in patterns))
    return tuple(weight for weight in table.weights if weight.leaf in words)


# ------------------------------------------------------------------------------------------------------------ the rules


def _unmatched(table: StageTable, lora: Lora, spoken_for: set[str]) -> list[TargetFinding]:
    """One finding per pattern whose last component exists elsewhere, and one for all that name nothing there is."""
    missing = [
        pattern
        for pattern in lora.patterns
        if pattern not in spoken_for and not _matched(table, pattern) and not _by_another_name(table, pattern)
    ]
    there = {pattern: _namesakes(table, (pattern,)) for pattern in missing}
    for pattern in lora.patterns:
        there |= {name: _namesakes(table, (name,)) for name in _idle_names(table, lora, pattern)}
    unknown = tuple(pattern for pattern, weights in there.items() if not weights)
    return [
        *(TargetFinding(Code.UNMATCHED, (pattern,), weights) for pattern, weights in there.items() if weights),
        *([TargetFinding(Code.UNMATCHED, unknown, ())] if unknown else []),
    ]


def _idle_names(table: StageTable, lora: Lora, pattern: str) -> list[str]:
    """Names that a regular expression which matches something ends in, and that nothing it matches is called.

    A projection that is there under another name is T103's.
    """
    leaves = {weight.leaf for weight in _matched(table, pattern)}
    if pattern != lora.regex or not leaves:
        return []
    return [
        name
        for name in last_names(pattern)
        if not any(leaf.endswith(name) for leaf in leaves) and not _holders(table, name)
    ]


def last_names(regex: str) -> tuple[str, ...]:
    """The names that a regular expression spells out as last component: those of `.*\\.(q_proj|v_proj)`, or of
    `.*q_proj|.*v_proj`. None where it ends in anything else.
    """
    plain, closed = r"\w+", regex.removesuffix("$")
    group = re.search(rf"\((?:\?:)?({plain}(?:\|{plain})*)\)$", closed)
    if group:
        return tuple(group[1].split("|"))
    if "(" in closed or "[" in closed:
        return ()
    ends = [re.search(rf"(?:^|[*+.])({plain})$", part) for part in closed.split("|")]
    return tuple(end[1] for end in ends if end)


def _by_another_name(table: StageTable, pattern: str) -> bool:
    """Whether all that holds what a pattern names has an adapter, and something does."""
    holders = _holders(table, pattern)
    return bool(holders) and all(weight.adapter for weight in holders)


def _holders(table: StageTable, pattern: str) -> list[Weight]:
    """The weights that hold what a pattern names, each name in the parts of the model in which it matches."""
    about = {name: _about_name(table, pattern, name) for name in named_by(pattern)}
    return [
        weight
        for weight in _matrices(table)
        if any(weight.area in areas and HOLDS[name] & _holds((weight.leaf,)) for name, areas in about.items())
    ]


def _about_name(table: StageTable, pattern: str, name: str) -> frozenset[Area]:
    return frozenset(w.area for w in _matched(table, pattern) if w.leaf == name) or _about(table, pattern)


def _unreached(table: StageTable, lora: Lora) -> list[TargetFinding]:
    """One finding per block that holds what was named: `mlp.experts` rather than each of its weights. For `all-linear`
    one altogether.
    """
    naming: dict[Weight, list[str]] = {}
    for pattern in lora.patterns:
        for weight in _missed(table, pattern):
            naming.setdefault(weight, []).append(pattern)
    blocks: dict[str, list[Weight]] = {}
    for weight, patterns in naming.items():
        block = "" if ALL_LINEAR in patterns else weight.path.rpartition(".")[0]
        blocks.setdefault(block, []).append(weight)
    return [
        TargetFinding(
            Code.UNREACHED, tuple(p for p in lora.patterns if any(p in naming[w] for w in block)), tuple(block)
        )
        for block in blocks.values()
    ]


def _missed(table: StageTable, pattern: str) -> list[Weight]:
    """What a pattern names and no adapter sits on. Modules of the very name it spells out are T104's."""
    if pattern == ALL_LINEAR:
        return [weight for weight in _matrices(table) if weight.area is Area.LANGUAGE and not weight.adapter]
    names = named_by(pattern)
    return [
        weight
        for weight in _holders(table, pattern)
        if not weight.adapter and (weight.leaf not in names or weight.kind is WeightKind.PARAMETER)
    ]


def _partial(table: StageTable, lora: Lora) -> list[TargetFinding]:
    if lora.options.get("layers_to_transform") is not None:
        return []
    places: dict[tuple[str, tuple[int, ...]], list[Weight]] = {}
    for weight in _matrices(table):
        places.setdefault((_in_every_layer(weight.path), weight.shape), []).append(weight)
    left: dict[tuple[tuple[str, ...], int, int], list[Weight]] = {}
    for weights in places.values():
        patterns = tuple(p for p in lora.patterns if any(p in weight.patterns for weight in weights))
        without = [weight for weight in weights if not weight.adapter]
        total = sum(weight.count for weight in weights)
        reached = total - sum(weight.count for weight in without)
        if patterns and without:
            left.setdefault((patterns, reached, total), []).extend(without)
    return [TargetFinding(Code.PARTIAL, patterns, tuple(w), reached, of) for (patterns, reached, of), w in left.items()]


def _in_every_layer(path: str) -> str:
    """`model.layers.[0-9].mlp` and `model.layers.10.mlp` are the same place in different layers."""
    return re.sub(r"\.(\[[\d,-]+\]|\d+)(?=\.|$)", ".*", path)


def _elsewhere(table: StageTable, lora: Lora) -> list[TargetFinding]:
    """One finding per other part, with all patterns that reach into it unasked."""
    found: dict[Area, dict[str, list[Weight]]] = {}
    for pattern in lora.patterns:
        matched = _matched(table, pattern)
        if pattern == ALL_LINEAR or not any(weight.area is Area.LANGUAGE for weight in matched):
            continue
        inside = {weight.leaf for weight in matched if weight.area is Area.LANGUAGE}
        # `.*proj` does not ask for a vision encoder's `proj`: it is how the language model's names end too.
        spelled = last_names(pattern) if pattern == lora.regex else ()
        of_its_own = {name for name in spelled if not any(leaf.endswith(name) for leaf in inside)}
        for weight in matched:
            if weight.area is not Area.LANGUAGE and not (weight.leaf in of_its_own or _spells_out(pattern, weight)):
                found.setdefault(weight.area, {}).setdefault(pattern, []).append(weight)
    return [
        TargetFinding(
            Code.ELSEWHERE, tuple(by_pattern), tuple(weight for weights in by_pattern.values() for weight in weights)
        )
        for by_pattern in found.values()
    ]


def _spells_out(pattern: str, weight: Weight) -> bool:
    """Whether a pattern names the part of the model a weight is in. A head is called what it is."""
    parts = weight.path.split(".") if weight.area in (Area.HEAD, Area.EMBEDDING) else weight.path.split(".")[:-1]
    return bool(_words(pattern) & (set(parts) - _EVERYWHERE))


def _frozen(table: StageTable) -> list[TargetFinding]:
    beside = tuple(weight for weight in table.weights if weight.adapter and weight.adapter.kind is AdapterKind.LORA)
    if not beside or any(weight.adapter.trainable for weight in beside if weight.adapter):
        return []
    return [TargetFinding(Code.FROZEN, (), beside)]


def _unquantized(table: StageTable, quantization: Quantization) -> list[TargetFinding]:
    left = tuple(weight for weight in _matrices(table) if not weight.quantized and _is_stacked(weight))
    return [TargetFinding(Code.UNQUANTIZED, (), left)] if left and quantization is not Quantization.NONE else []
