"""Checks of the configuration of a saved adapter. Each is a pure function that returns None or a finding."""

from __future__ import annotations

import json

from finetune_compat.inspect.case import (
    Case,
    Seen,
    asked_whole,
    modules_of,
    named,
    named_places,
    names_of,
    share_of,
)
from finetune_compat.inspect.layers import ends_as, zero_at_start
from finetune_compat.inspect.names import EMBEDDINGS, OUTPUTS
from finetune_compat.inspect.starts import initial_values
from finetune_compat.machine.units import counted


def not_frozen_when_reloaded(case: Case) -> Seen | None:
    """The configuration does not set inference_mode. save_pretrained of PEFT 0.9.0 to 0.21.2 always sets it."""
    if not case.saved.config.inference_mode or case.saved.is_prompt:
        return None
    return Seen(
        "inference_mode is true, as save_pretrained always writes it: an adapter loaded without is_trainable=True, "
        "or created from this configuration, is frozen."
    )


def trainable_when_reloaded(case: Case) -> Seen | None:
    """PEFT can load the adapter to continue training. It refuses this for all methods with virtual tokens."""
    if not case.saved.is_prompt:
        return None
    method = case.saved.config.peft_type
    return Seen(f"PEFT loads {method} frozen, and refuses to load it with is_trainable=True.")


def scaled(case: Case) -> Seen | None:
    dead = [layer for layer in case.saved.layers if layer.scaling == 0]
    if not dead:
        return None
    share = share_of(len(dead), len(case.saved.layers), "module")
    where = modules_of(dead)
    return Seen(f"The scaling of {share} is 0: the adapter has no effect there {named_places(where)}.", where)


def patterns_match(case: Case) -> Seen | None:
    config, layers = case.saved.config, case.saved.layers
    # A pattern may name a parameter, but the names of its module's tensors do not hold the parameter's name.
    parameters = [name.rpartition(".")[2] for name in config.target_parameters or ()]
    subjects = [name for layer in layers for name in (layer.module, *(f"{layer.module}.{p}" for p in parameters))]
    keys = dict.fromkeys((*(config.rank_pattern or ()), *(config.alpha_pattern or ())))
    idle = tuple(key for key in keys if not any(ends_as(key, subject) for subject in subjects))
    if not idle:
        return None
    verb = "matches" if len(idle) == 1 else "match"
    return Seen(f"{counted(len(idle), 'key')} of rank_pattern and alpha_pattern {verb} no module {named(idle)}.", idle)


def heads_told_apart(case: Case) -> Seen | None:
    names = case.saved.config.modules_to_save or ()
    inside = tuple(f"{one} in {other}" for one in names for other in names if one != other and one in other)
    if not inside:
        return None
    return Seen(
        f"Names in modules_to_save are parts of other names {named(inside)}: PEFT before 0.15 loads one in place of "
        "the other, depending on the hash seed.",
        inside,
    )


def ends_kept_together(case: Case) -> Seen | None:
    saved, tied = case.saved, case.loading.tied if case.loading else None
    if tied is False or saved.config.ensure_weight_tying:
        return None
    adapted = {*modules_of(saved.layers), *(module for _, module in asked_whole(saved))}
    ends = tuple(sorted(module for module in adapted if module.rpartition(".")[2] in EMBEDDINGS | OUTPUTS))
    if not ends:
        return None
    premise = "The base ties" if tied else "If the base ties"
    return Seen(
        f"{premise} input embeddings to the output layer, changing {', '.join(ends)} unties them: merging and "
        "saving keeps only one of the two.",
        ends,
    )


def judged_in_depth(case: Case) -> Seen | None:
    if case.saved.config.is_lora:
        return None
    method = case.saved.config.peft_type
    if initial_values(case.saved.config_raw):
        return Seen(
            f"{method} is not judged in depth: only empty tensors, NaN, infinity and initial values are checked."
        )
    return Seen(
        f"{method} is not judged in depth: only empty tensors, NaN and infinity are checked. The file does not show "
        "whether it was trained."
    )


def every_value_read(case: Case) -> Seen | None:
    tensors = case.saved.weights.tensors
    unread = [tensor for tensor in tensors if tensor.values is None]
    if not unread:
        return None
    dtypes = ", ".join(sorted({tensor.dtype for tensor in unread}))
    share = share_of(len(unread), len(tensors), "tensor")
    return Seen(f"The values of {share} were not read (dtype {dtypes}).", names_of(unread))


def training_shows(case: Case) -> Seen | None:
    config = case.saved.config
    if not config.is_lora or zero_at_start(config):
        return None
    return Seen(
        f"init_lora_weights is {json.dumps(config.init_lora_weights)}: updates do not start at zero, so the file "
        "does not show whether they were trained."
    )


def no_pickle_beside(case: Case) -> Seen | None:
    pickles = case.saved.pickles
    if not pickles:
        return None
    return Seen(f"The directory also holds pickled weights {named(pickles)}; they were not read.", pickles)
