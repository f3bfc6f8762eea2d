"""What an issue needs besides the versions, in words, from its signatures. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from finetune_compat.affected.hits import Hit
from finetune_compat.contract.catalog import MODELS
from finetune_compat.contract.records import Precision

_PRECISIONS = {
    Precision.NF4: "4-bit",
    Precision.NF4_PLAIN: "4-bit",
    Precision.NF4_BF16: "4-bit",
    Precision.INT8: "8-bit",
    Precision.FULL: "unquantized",
    Precision.BF16: "unquantized",
}
_FEATURES = {"avx512_bf16": "a CPU with AVX512-BF16", "without_triton": "no Triton"}


def conditions(hit: Hit) -> tuple[str, ...]:
    """One clause for each condition, the one that the ledger states in words first."""
    return (hit.issue.needs, *_measured(hit))


def flows(hit: Hit) -> tuple[str, ...]:
    """The flows of the catalog that show it in these versions."""
    return tuple(dict.fromkeys(flow for shown in hit.signatures for flow in shown.flows))


def _measured(hit: Hit) -> Iterator[str]:
    if len(hit.signatures) < len(hit.shows):
        return  # a script has no variants: `needs` states all conditions
    precisions = {name for shown in hit.signatures for name in (shown.precisions or tuple(Precision))}
    words = tuple(dict.fromkeys(_PRECISIONS[name] for name in Precision if name in precisions))
    if len(words) < len(set(_PRECISIONS.values())):
        yield f"{' or '.join(words)} weights"
    checkpointing = {shown.gradient_checkpointing for shown in hit.signatures}
    if len(checkpointing) == 1 and None not in checkpointing:
        yield "gradient checkpointing" if True in checkpointing else "no gradient checkpointing"
    if all(shown.models for shown in hit.signatures):
        models = {name for shown in hit.signatures for name in shown.models}
        yield f"seen on {', '.join(name for name in MODELS if name in models)}"
    devices = {shown.device for shown in hit.signatures}
    if len(devices) == 1 and None not in devices:
        yield f"device {devices.pop()}"
    yield from dict.fromkeys(_FEATURES.get(shown.feature, shown.feature) for shown in hit.signatures if shown.feature)
