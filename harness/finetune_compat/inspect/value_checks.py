"""Checks of the values of a saved adapter. Each is a pure function that returns None or a finding."""

from __future__ import annotations

import re

from finetune_compat.checks.engine import NotApplicable
from finetune_compat.inspect.case import (
    Case,
    Seen,
    modules_of,
    named,
    named_places,
    names_of,
    share_of,
    so_many,
)
from finetune_compat.inspect.names import FACTORS, Part
from finetune_compat.inspect.starts import initial_values, with_initial_value

_MATRIX = 2
"""Number of dimensions of a factor of a linear layer; a factor of a convolution has more."""


def has_tensors(case: Case) -> Seen | None:
    return None if case.saved.weights.tensors else Seen("The file holds no tensor.")


def gathered(case: Case) -> Seen | None:
    saved = case.saved
    shards = [
        tensor
        for tensor in saved.weights.tensors
        if not tensor.elements or (saved.names[tensor.name].part in FACTORS and len(tensor.shape) < _MATRIX)
    ]
    if not shards:
        return None
    share = share_of(len(shards), len(saved.names), "tensor")
    shapes = named([str(list(shape)) for shape in dict.fromkeys(tensor.shape for tensor in shards)])
    return Seen(f"The shape of {share} is that of a shard {shapes}, not of a whole tensor.", names_of(shards))


def finite(case: Case) -> Seen | None:
    tensors = case.saved.weights.tensors
    broken = [tensor for tensor in tensors if tensor.values and tensor.values.nan + tensor.values.infinite]
    if not broken:
        return None
    values = [tensor.values for tensor in broken if tensor.values]
    nan, infinite = sum(v.nan for v in values), sum(v.infinite for v in values)
    kinds = " and ".join(f"{number:,} {kind}" for number, kind in ((nan, "NaN"), (infinite, "infinite")) if number)
    where = names_of(broken)
    share = share_of(len(broken), len(tensors), "tensor")
    return Seen(f"Not every value is a finite number: {kinds} in {share} {named_places(where)}.", where)


def ever_trained(case: Case) -> Seen | None:
    return _lora_trained(case) if case.saved.config.is_lora else _other_method_trained(case)


def _lora_trained(case: Case) -> Seen | None:
    born = [tensor for layer in case.saved.layers if (tensor := layer.born_zero)]
    if not born or not all(tensor.all_zero for tensor in born):
        return None
    classes = dict.fromkeys(case.saved.names[tensor.name].part.value for tensor in born)
    which = f"{' and '.join(classes)} {'is' if len(classes) == 1 else 'are'}"
    where = share_of(len(born), len(born), "module")
    return Seen(
        f"{which} exactly zero in {where}, as before the first step: this adapter was never trained.",
        names_of(born),
    )


def _other_method_trained(case: Case) -> Seen | None:
    values = initial_values(case.saved.config_raw)
    if not values:
        raise NotApplicable(f"the file does not show whether {case.saved.config.peft_type} was trained")
    unchanged = with_initial_value(case.saved.weights.tensors, values)
    if not unchanged or not all(unchanged.values()):
        return None
    there = {part: value for part, value in values.items() if any(f".{part}." in f".{name}." for name in unchanged)}
    parts = " and ".join(f"{part} ({value:g})" for part, value in there.items())
    share = share_of(len(unchanged), len(unchanged), "tensor")
    return Seen(
        f"{parts} {'has' if len(there) == 1 else 'have'} the initial value in {share}, as before the first step: this "
        "adapter was never trained.",
        tuple(unchanged),
    )


def trained_everywhere(case: Case) -> Seen | None:
    return _still_zero(case, experts=False)


def trained_in_every_expert(case: Case) -> Seen | None:
    return _still_zero(case, experts=True)


def _still_zero(case: Case, *, experts: bool) -> Seen | None:
    among = [layer for layer in case.saved.layers if bool(re.search(r"\.experts\.\d+\.", layer.module)) is experts]
    where = modules_of(layer for layer in among if layer.born_zero and layer.born_zero.all_zero)
    if not where:
        return None
    share = share_of(len(where), len(among), "expert module" if experts else "module")
    return Seen(f"The update of {share} is exactly zero, as before the first step {named_places(where)}.", where)


def nothing_wiped(case: Case) -> Seen | None:
    saved = case.saved
    born = {tensor.name for layer in saved.layers if (tensor := layer.born_zero)}
    elsewhere = FACTORS | {Part.MAGNITUDE, Part.EMBEDDING, Part.HEAD}
    where = names_of(
        tensor
        for tensor in saved.weights.tensors
        if tensor.all_zero and tensor.name not in born and saved.names[tensor.name].part in elsewhere
    )
    if not where or not saved.config.is_lora:
        return None
    which = so_many(len(where), "tensor", "holds", "hold")
    return Seen(f"{which} only zeros, where training neither starts nor ends at zero {named_places(where)}.", where)


def no_copies(case: Case) -> Seen | None:
    first: dict[tuple[str, str, tuple[int, ...]], str] = {}
    copies = []
    for tensor in case.saved.weights.tensors:
        if case.saved.names[tensor.name].part in FACTORS and tensor.elements and not tensor.all_zero:
            same = first.setdefault((tensor.sha256, tensor.dtype, tensor.shape), tensor.name)
            copies += [tensor.name] if same != tensor.name else []
    if not copies or case.saved.config.layer_replication:
        return None
    which = so_many(len(copies), "tensor", "equals", "equal")
    return Seen(f"{which} another tensor byte for byte {named_places(copies)}.", tuple(copies))
