"""Count the parameters of a model: by area, stored and logical, trainable and total."""

from __future__ import annotations

import functools
import hashlib
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from finetune_compat.contract.records import ActiveAdapters, Actor, Area, AreaCount, Census, Stage

_ALWAYS = (
    "lora_",
    "modules_to_save",
    "trainable_tokens_",
    # Segment Anything has a prompt_encoder too, with other parts.
    r"prompt_encoder(?=\.[^.]+\.(?:\w*embedding|transform|mlp_head|lstm_head|prefix_task_\w+)\b)",
    "adaption_prompt",
    "adaption_gate",
)
"""Beginnings of the names of what PEFT adds, as regular expressions: what no layer declares, and LoRA, whose names are
known without PEFT.
"""

_AREA_MARKS: tuple[tuple[Area, tuple[str, ...]], ...] = (
    (Area.PROJECTOR, ("visual.merger", "multi_modal_projector", "model.connector.")),
    (Area.VISION, ("visual.", "vision_tower", "vision_model.")),
    # Llama and most families; GPT-2; Falcon and BLOOM; GPT-NeoX.
    (Area.EMBEDDING, ("embed_tokens", ".wte.", "word_embeddings.", "embed_in.")),
    (Area.HEAD, ("lm_head", "score.", "embed_out.")),
    (Area.NORM, ("norm",)),
)


def adapter_marks() -> tuple[str, ...]:
    """`_ALWAYS`, and the names that the layers of the imported PEFT declare as theirs."""
    return _marks_of(sys.modules.get("peft.tuners.tuners_utils"))


@functools.cache
def _marks_of(tuners: Any) -> tuple[str, ...]:
    layers = _below(getattr(tuners, "BaseTunerLayer", None))
    names = (name for layer in layers for name in getattr(layer, "adapter_layer_names", ()))
    return tuple(dict.fromkeys((*_ALWAYS, *names)))


def _below(kind: type[Any] | None) -> Iterator[type[Any]]:
    for lower in kind.__subclasses__() if kind is not None else ():
        yield lower
        yield from _below(lower)


@functools.cache
def _pattern(before: str, marks: tuple[str, ...], after: str) -> re.Pattern[str]:
    return re.compile(f"{before}(?:{'|'.join(marks)}){after}")


def adapter_part(name: str) -> str | None:
    """The part of the parameter name `name` that PEFT added, such as `lora_A`; None if PEFT added none."""
    return _part(name, adapter_marks())


@functools.cache
def _part(name: str, marks: tuple[str, ...]) -> str | None:
    found = _pattern(r"(?:^|\.)(", marks, r"\w*)(?:\.|$)").search(name)
    return found[1] if found else None


def area_of(name: str) -> Area:
    """The area of the parameter called `name`; without a mark, the language model's layers."""
    return seat_of(name) if adapter_part(name) is None else Area.ADAPTER


@functools.cache
def seat_of(name: str) -> Area:
    """The area of the module that the adapter parameter called `name` sits on."""
    return next((area for area, marks in _AREA_MARKS if any(mark in name for mark in marks)), Area.LANGUAGE)


def is_adapter(name: str) -> bool:
    """Whether PEFT added the parameter called `name`."""
    return area_of(name) is Area.ADAPTER


def has_adapters(model: nn.Module) -> bool:
    """Whether PEFT added parameters to `model`."""
    return any(is_adapter(name) for name, _ in model.named_parameters())


def subject(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that a flow over `model` trains, by name: active adapters, or without adapters all parameters."""
    return _subject(dict(model.named_parameters()), active_adapters(model))


def _subject(named: Mapping[str, nn.Parameter], active: tuple[str, ...]) -> dict[str, nn.Parameter]:
    """As `subject`. If no layer names an active adapter, all adapters are taken."""
    adapters = {name: p for name, p in named.items() if is_adapter(name)}
    return _owned(adapters, active) or adapters or dict(named)


def _owned(adapters: Mapping[str, nn.Parameter], by: tuple[str, ...]) -> dict[str, nn.Parameter]:
    return {name: p for name, p in adapters.items() if _adapter_name(name) in by}


def active_adapters(model: nn.Module) -> tuple[str, ...]:
    """Names of the adapters that the layers of `model` compute with; empty if no layer of PEFT names one.

    Read from the layers and not from `PeftModel`: the layers decide what is computed, and Transformers adds adapters
    without a `PeftModel`.
    """
    return tuple(sorted({name for module in model.modules() for name in _active_of(module)}))


def _active_of(module: Any) -> Iterable[str]:
    if _is_adapter_layer(type(module)):
        return tuple(module.active_adapters)
    # Methods that put virtual tokens before the input have no layers in the model.
    active = module.active_adapter if isinstance(getattr(module, "prompt_encoder", None), nn.ModuleDict) else None
    return (active,) if isinstance(active, str) else ()


def _is_adapter_layer(kind: type[nn.Module]) -> bool:
    """Compared by name, because an environment may have no PEFT."""
    return any(base.__name__ == "BaseTunerLayer" for base in kind.__mro__)


def _adapter_name(name: str) -> str | None:
    """The adapter of the parameter called `name`: PEFT puts the adapter's name into the parameter's name."""
    found = _pattern(r"(?:^|\.)", adapter_marks(), r"\w*\.([^.]+)").search(name)
    return found[1] if found else None


def take(model: nn.Module, stage: Stage, actor: Actor, *, digest: bool) -> Census:
    """The census of `model` at `stage`. With `digest` the values of its subject are hashed: every element is read."""
    named = list(model.named_parameters())
    trainable = [(name, p) for name, p in named if p.requires_grad]
    active = active_adapters(model)
    adapters = {name: p for name, p in named if is_adapter(name)}
    # A frozen copy that a trainer adds as its reference is not what the flow trains.
    own = (_owned(adapters, active) or adapters).items()
    dtypes: Counter[str] = Counter()
    for _, parameter in named:
        dtypes[_dtype(parameter)] += parameter.numel()
    return Census(
        name=stage,
        by=actor,
        trainable=_stored(trainable),
        total=_stored(named),
        trainable_logical=_logical(trainable),
        total_logical=_logical(named),
        by_area=_counted(named, area_of),
        adapters_on=_counted(own, seat_of),
        adapted=_adapted(name for name, _ in named),
        checkpointing=_checkpointing(model),
        trainable_names_sha256=_digest(name.encode() + b"\n" for name, _ in sorted(trainable)),
        dtypes=dict(dtypes),
        adapter_dtypes=tuple(sorted({_dtype(p) for _, p in own})),
        subject_sha256=values_digest(_subject(dict(named), active)) if digest else None,
        active=_active(dict(named), active),
    )


def _active(named: Mapping[str, nn.Parameter], names: tuple[str, ...]) -> ActiveAdapters | None:
    owned = _owned({name: p for name, p in named.items() if is_adapter(name)}, names)
    if not owned:
        return None
    trainable = ((name, p) for name, p in owned.items() if p.requires_grad)
    return ActiveAdapters(names, _stored(trainable), _stored(owned.items()))


def _adapted(names: Iterable[str]) -> dict[str, int]:
    """Number of modules with an adapter, by the last part of their name."""
    seats = _pattern(r"(.+?)\.", adapter_marks(), "")
    modules = {seat[1] for name in names if (seat := seats.match(name))}
    return dict(sorted(Counter(module.rpartition(".")[2] for module in modules).items()))


def _checkpointing(model: nn.Module) -> str:
    """Gradient checkpointing as Transformers stores it: a flag and a function at every module that supports it."""
    on = [module for module in model.modules() if getattr(module, "gradient_checkpointing", False) is True]
    if not on:
        return "off"
    keywords = getattr(getattr(on[0], "_gradient_checkpointing_func", None), "keywords", None) or {}
    if "use_reentrant" not in keywords:
        return "on"
    return "reentrant" if keywords["use_reentrant"] else "not reentrant"


def _dtype(parameter: torch.Tensor) -> str:
    return str(parameter.dtype).removeprefix("torch.")


def _stored(named: Iterable[tuple[str, torch.Tensor]]) -> int:
    return sum(parameter.numel() for _, parameter in named)


def _logical(named: Iterable[tuple[str, torch.Tensor]]) -> int:
    return sum(unpacked(parameter) for _, parameter in named)


def unpacked(parameter: torch.Tensor) -> int:
    """Number of weights in `parameter`: bitsandbytes packs two 4-bit weights into each byte, in any storage dtype."""
    if parameter.__class__.__name__ != "Params4bit":
        return parameter.numel()
    return parameter.numel() * 2 * parameter.element_size()


def _counted(named: Iterable[tuple[str, torch.Tensor]], place: Callable[[str], Area]) -> dict[Area, AreaCount]:
    trainable: Counter[Area] = Counter()
    total: Counter[Area] = Counter()
    for name, parameter in named:
        total[place(name)] += parameter.numel()
        trainable[place(name)] += parameter.numel() if parameter.requires_grad else 0
    return {area: AreaCount(trainable[area], total[area]) for area in total}


def values_digest(parameters: dict[str, nn.Parameter]) -> str:
    """Digest of the values of `parameters`. It is independent of names, because reloading and wrapping change them.

    Values are rounded to bfloat16 first: trainers may store the same adapter in another dtype.
    """
    blobs = sorted(_bytes(parameter) for parameter in parameters.values())
    return _digest(blobs)


def _bytes(parameter: torch.Tensor) -> bytes:
    return parameter.detach().to("cpu", torch.bfloat16).contiguous().view(torch.uint8).numpy().tobytes()


def _digest(chunks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()
