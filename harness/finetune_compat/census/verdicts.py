"""Whether the stage table does what a user means by the targets. Pure: no torch, no files, no prose.

The rules, ordered so that causes come first:

T101 refused     PEFT refuses the configuration. No other rule about targets applies, because nothing was adapted.
T102 unmatched   A pattern matches nothing, or one of the names at the end of a regular expression matches nothing.
T103 unreached   A pattern names a projection that the language model holds in a weight of another name, or in one
                 tensor for all experts, and that weight has no adapter. `all-linear` names every matrix of a layer.
T104 partial     A pattern matches a module in some layers, and in other layers the same module has no adapter.
T105 elsewhere   A pattern matches modules of the language model, and modules of another part that it does not name. A
                 regular expression names another part also by a module name that only that part has.
T106 frozen      Adapters are attached and none of them trains: the configuration has `inference_mode`.
T107 unquantized Quantization was requested, and experts in one tensor are not quantized.

What a pattern names: a suffix names its last component; a regular expression names every projection whose name it
contains. The last component of a weight determines which projections it holds (`HOLDS`). A pattern applies to the parts
of the model in which it matches. A pattern without a match applies to the language model, because these are names of
decoders. There is no finding for a pattern without a match if every weight that holds the named projections has an
adapter, for layers that `layers_to_transform` excludes, and for parts that `all-linear` reaches: these are intended.
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
    """The rule of a finding."""

    REFUSED = "T101"
    UNMATCHED = "T102"
    UNREACHED = "T103"
    PARTIAL = "T104"
    ELSEWHERE = "T105"
    FROZEN = "T106"
    UNQUANTIZED = "T107"


@dataclass(frozen=True, slots=True)
class TargetFinding:
    """One finding: the rule, the patterns, and the weights."""

    code: Code
    patterns: tuple[str, ...]
    weights: tuple[Weight, ...]
    """The weights of the finding. For T101 and T102: the weights of this model that have the named names."""
    reached: int = 0
    """For T104: number of layers in which the module has an adapter."""
    of: int = 0
    """For T104: number of layers that have the module."""

    @property
    def elements(self) -> int:
        """Elements of the weights of the finding, unpacked."""
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
"""Projections of a decoder layer by weight name. Names that mean different things in different models (`fc1`, `dense`,
`proj`) are left out: nothing follows from them."""

STACKED = 3
"""Minimum number of dimensions of a tensor that holds one matrix for several experts."""

_EVERYWHERE = frozenset({"model", "layers", "blocks", "mlp", "self_attn", "attn"})
"""Path components that occur in several parts of a model."""

_LAYERS = (Area.LANGUAGE, Area.VISION, Area.PROJECTOR)
"""Areas with layers, whose matrices should be quantized, unlike embeddings and heads."""


def findings(table: StageTable, lora: Lora, quantization: Quantization) -> tuple[TargetFinding, ...]:
    """All findings on `table`, the response of a stack to a request with `lora` and `quantization`."""
    unquantized = _unquantized(table, quantization)
    if table.refusal is not None:
        return (TargetFinding(Code.REFUSED, lora.patterns, _namesakes(table, lora.patterns)), *unquantized)
    unreached = _unreached(table, lora)
    explained = {pattern for finding in unreached for pattern in finding.patterns}
    return (
        *_frozen(table),
        *_unmatched(table, lora, explained),
        *unreached,
        *_partial(table, lora),
        *_elsewhere(table, lora),
        *unquantized,
    )


# ------------------------------------------------------------------------------------------------- what a pattern names


def named_by(pattern: str) -> frozenset[str]:
    """The names of `HOLDS` that a pattern contains."""
    return _words(pattern) & HOLDS.keys()


def _words(pattern: str) -> frozenset[str]:
    # The letters in `\b` and `\d` are not part of names.
    return frozenset(re.findall(r"[A-Za-z][A-Za-z0-9_]*", re.sub(r"\\[A-Za-z]", " ", pattern)))


def _holds(names: Iterable[str]) -> frozenset[_Projection]:
    return frozenset().union(*(HOLDS.get(name, frozenset()) for name in names))


def _matrices(table: StageTable) -> list[Weight]:
    """The weights of layers that LoRA can adapt: linear layers, stacked experts, and routers."""
    return [weight for weight in table.weights if weight.area in _LAYERS and _is_matrix(weight)]


def _is_matrix(weight: Weight) -> bool:
    if weight.kind is WeightKind.PARAMETER:
        # Other parameters, for example positions, are not matrices of a product. If they have more than two dimensions,
        # one is the batch dimension of size 1.
        return _is_stacked(weight) or weight.leaf == "weight"
    return weight.kind is WeightKind.LINEAR


def _is_stacked(weight: Weight) -> bool:
    return len(weight.shape) >= STACKED and min(weight.shape) > 1


def _matched(table: StageTable, pattern: str) -> list[Weight]:
    return [weight for weight in table.weights if pattern in weight.patterns]


def _about(table: StageTable, pattern: str) -> frozenset[Area]:
    return frozenset(weight.area for weight in _matched(table, pattern)) or frozenset({Area.LANGUAGE})


def _namesakes(table: StageTable, patterns: Sequence[str]) -> tuple[Weight, ...]:
    """Weights whose last path component occurs in one of the patterns."""
    words = frozenset().union(*(_words(pattern) for pattern in patterns))
    return tuple(weight for weight in table.weights if weight.leaf in words)


# ------------------------------------------------------------------------------------------------------------ the rules


def _unmatched(table: StageTable, lora: Lora, explained: set[str]) -> list[TargetFinding]:
    """One finding per pattern whose names exist elsewhere, and one for all patterns whose names do not exist."""
    missing = [
        pattern
        for pattern in lora.patterns
        if pattern not in explained and not _matched(table, pattern) and not _by_another_name(table, pattern)
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
    """Names at the end of a regular expression that no match has, if the expression matches anything.

    Projections that exist under another name are left to T103.
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
    """The last path components that a regular expression lists, as in `.*\\.(q_proj|v_proj)` or `.*q_proj|.*v_proj`.
    Empty if the expression ends in another way.
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
    """Whether there are weights that hold what a pattern names, and all of them have an adapter."""
    holders = _holders(table, pattern)
    return bool(holders) and all(weight.adapter for weight in holders)


def _holders(table: StageTable, pattern: str) -> list[Weight]:
    """The weights that hold what a pattern names. Each name counts only in the parts of the model where it matches."""
    about = {name: _about_name(table, pattern, name) for name in named_by(pattern)}
    return [
        weight
        for weight in _matrices(table)
        if any(weight.area in areas and HOLDS[name] & _holds((weight.leaf,)) for name, areas in about.items())
    ]


def _about_name(table: StageTable, pattern: str, name: str) -> frozenset[Area]:
    return frozenset(w.area for w in _matched(table, pattern) if w.leaf == name) or _about(table, pattern)


def _unreached(table: StageTable, lora: Lora) -> list[TargetFinding]:
    """One finding per block (`mlp.experts`) instead of one per weight. For `all-linear` a single finding."""
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
    """Weights that a pattern names and that have no adapter. Modules with exactly a named name are left to T104."""
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
    """`path` with `*` for layer indices: `model.layers.[0-9].mlp` and `model.layers.10.mlp` become equal."""
    return re.sub(r"\.(\[[\d,-]+\]|\d+)(?=\.|$)", ".*", path)


def _elsewhere(table: StageTable, lora: Lora) -> list[TargetFinding]:
    """One finding per other part of the model, with all patterns that match there without naming it."""
    found: dict[Area, dict[str, list[Weight]]] = {}
    for pattern in lora.patterns:
        matched = _matched(table, pattern)
        if pattern == ALL_LINEAR or not any(weight.area is Area.LANGUAGE for weight in matched):
            continue
        inside = {weight.leaf for weight in matched if weight.area is Area.LANGUAGE}
        # `.*proj` does not name a vision encoder's `proj`: names of the language model have the same ending.
        listed = last_names(pattern) if pattern == lora.regex else ()
        only_there = {name for name in listed if not any(leaf.endswith(name) for leaf in inside)}
        for weight in matched:
            if weight.area is not Area.LANGUAGE and not (weight.leaf in only_there or _names_part(pattern, weight)):
                found.setdefault(weight.area, {}).setdefault(pattern, []).append(weight)
    return [
        TargetFinding(
            Code.ELSEWHERE, tuple(by_pattern), tuple(weight for weights in by_pattern.values() for weight in weights)
        )
        for by_pattern in found.values()
    ]


def _names_part(pattern: str, weight: Weight) -> bool:
    """Whether a pattern names the part of the model that holds a weight. Heads and embeddings count as parts."""
    parts = weight.path.split(".") if weight.area in (Area.HEAD, Area.EMBEDDING) else weight.path.split(".")[:-1]
    return bool(_words(pattern) & (set(parts) - _EVERYWHERE))


def _frozen(table: StageTable) -> list[TargetFinding]:
    adapted = tuple(weight for weight in table.weights if weight.adapter and weight.adapter.kind is AdapterKind.LORA)
    if not adapted or any(weight.adapter.trainable for weight in adapted if weight.adapter):
        return []
    return [TargetFinding(Code.FROZEN, (), adapted)]


def _unquantized(table: StageTable, quantization: Quantization) -> list[TargetFinding]:
    left = tuple(weight for weight in _matrices(table) if not weight.quantized and _is_stacked(weight))
    return [TargetFinding(Code.UNQUANTIZED, (), left)] if left and quantization is not Quantization.NONE else []
