"""The checks of a saved adapter. Each is a pure function that returns None, or a finding in one sentence."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from finetune_compat.checks.engine import Engine
from finetune_compat.inspect.layers import Layer, ends_as, ends_with, excluded, saved_whole, zero_at_start
from finetune_compat.inspect.loading import Loading
from finetune_compat.inspect.names import EMBEDDINGS, FACTORS, OUTPUTS, PREFIX, WHOLE, WRAPPERS, Part, parse, places
from finetune_compat.inspect.saved import Saved
from finetune_compat.inspect.weights import Tensor
from finetune_compat.machine.units import counted

MOST = 3
"""Maximum number of places or values in a sentence; `where` has all of them."""

_MATRIX = 2
"""Number of dimensions of a factor of a linear layer; a factor of a convolution has more."""


@dataclass(frozen=True, slots=True)
class Case:
    """The input of a check."""

    saved: Saved
    loading: Loading | None
    """The result of loading under a stack; None if no stack was given."""


class Seen(str):
    """A finding of a check, in one sentence."""

    __slots__ = ("where",)
    where: tuple[str, ...]
    """All modules, tensors or keys that the finding is about."""

    def __new__(cls, sentence: str, where: tuple[str, ...] = ()) -> Self:
        """Return the sentence, with its places in `where`."""
        seen = super().__new__(cls, sentence)
        seen.where = where
        return seen


# --------------------------------------------------------------------------------------------------------- the wording


def _named(names: Sequence[str]) -> str:
    """The first `MOST` of `names`, in brackets, with the number of the others."""
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return f"({', '.join(names[:MOST])}{more})"


def _places(names: Iterable[str]) -> str:
    return _named(places(name.removeprefix(PREFIX) for name in names))


def _their_modules(names: Iterable[str]) -> str:
    # A prompt tensor belongs to no module: use its own name.
    return _places(parse(name).module or name for name in names)


def _so_many(number: int, noun: str, one: str, more: str) -> str:
    """Subject and verb: the count with the noun, and `one` or `more` as the verb."""
    return f"{counted(number, noun)} {one if number == 1 else more}"


def _share(part: int, whole: int, noun: str) -> str:
    return f"all {counted(whole, noun)}" if 1 < part == whole else f"{part:,} of {counted(whole, noun)}"


def _of_layers(layers: Iterable[Layer]) -> tuple[str, ...]:
    return tuple(layer.module for layer in layers)


def _of_tensors(tensors: Iterable[Tensor]) -> tuple[str, ...]:
    return tuple(tensor.name for tensor in tensors)


# ------------------------------------------------------------------------------------------------------- configuration


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
    share = _share(len(dead), len(case.saved.layers), "module")
    where = _of_layers(dead)
    return Seen(f"The scaling of {share} is 0: the adapter has no effect there {_places(where)}.", where)


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
    return Seen(f"{counted(len(idle), 'key')} of rank_pattern and alpha_pattern {verb} no module {_named(idle)}.", idle)


def heads_told_apart(case: Case) -> Seen | None:
    names = case.saved.config.modules_to_save or ()
    inside = tuple(f"{one} in {other}" for one in names for other in names if one != other and one in other)
    if not inside:
        return None
    return Seen(
        f"Names in modules_to_save are parts of other names {_named(inside)}: PEFT before 0.15 loads one in place of "
        "the other, depending on the hash seed.",
        inside,
    )


def ends_kept_together(case: Case) -> Seen | None:
    saved, tied = case.saved, case.loading.tied if case.loading else None
    if tied is False or saved.config.ensure_weight_tying:
        return None
    adapted = {*_of_layers(saved.layers), *(module for _, module in _asked_whole(saved))}
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
    return Seen(f"{method} is not judged in depth: only empty tensors, NaN and infinity are checked.")


def every_value_read(case: Case) -> Seen | None:
    tensors = case.saved.weights.tensors
    unread = [tensor for tensor in tensors if tensor.values is None]
    if not unread:
        return None
    dtypes = ", ".join(sorted({tensor.dtype for tensor in unread}))
    share = _share(len(unread), len(tensors), "tensor")
    return Seen(f"The values of {share} were not read (dtype {dtypes}).", _of_tensors(unread))


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
    return Seen(f"The directory also holds pickled weights {_named(pickles)}; they were not read.", pickles)


# -------------------------------------------------------------------------------------------------------------- values


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
    share = _share(len(shards), len(saved.names), "tensor")
    shapes = _named([str(list(shape)) for shape in dict.fromkeys(tensor.shape for tensor in shards)])
    return Seen(f"The shape of {share} is that of a shard {shapes}, not of a whole tensor.", _of_tensors(shards))


def finite(case: Case) -> Seen | None:
    tensors = case.saved.weights.tensors
    broken = [tensor for tensor in tensors if tensor.values and tensor.values.nan + tensor.values.infinite]
    if not broken:
        return None
    values = [tensor.values for tensor in broken if tensor.values]
    nan, infinite = sum(v.nan for v in values), sum(v.infinite for v in values)
    kinds = " and ".join(f"{number:,} {kind}" for number, kind in ((nan, "NaN"), (infinite, "infinite")) if number)
    where = _of_tensors(broken)
    share = _share(len(broken), len(tensors), "tensor")
    return Seen(f"Not every value is a finite number: {kinds} in {share} {_places(where)}.", where)


def ever_trained(case: Case) -> Seen | None:
    born = [tensor for layer in case.saved.layers if (tensor := layer.born_zero)]
    if not born or not all(tensor.all_zero for tensor in born):
        return None
    classes = dict.fromkeys(case.saved.names[tensor.name].part.value for tensor in born)
    which = f"{' and '.join(classes)} {'is' if len(classes) == 1 else 'are'}"
    where = _share(len(born), len(born), "module")
    return Seen(
        f"{which} exactly zero in {where}, as before the first step: this adapter was never trained.",
        _of_tensors(born),
    )


def trained_everywhere(case: Case) -> Seen | None:
    return _still_zero(case, experts=False)


def trained_in_every_expert(case: Case) -> Seen | None:
    return _still_zero(case, experts=True)


def _still_zero(case: Case, *, experts: bool) -> Seen | None:
    among = [layer for layer in case.saved.layers if bool(re.search(r"\.experts\.\d+\.", layer.module)) is experts]
    where = _of_layers(layer for layer in among if layer.born_zero and layer.born_zero.all_zero)
    if not where:
        return None
    share = _share(len(where), len(among), "expert module" if experts else "module")
    return Seen(f"The update of {share} is exactly zero, as before the first step {_places(where)}.", where)


def nothing_wiped(case: Case) -> Seen | None:
    saved = case.saved
    born = {tensor.name for layer in saved.layers if (tensor := layer.born_zero)}
    elsewhere = FACTORS | {Part.MAGNITUDE, Part.EMBEDDING, Part.HEAD}
    where = _of_tensors(
        tensor
        for tensor in saved.weights.tensors
        if tensor.all_zero and tensor.name not in born and saved.names[tensor.name].part in elsewhere
    )
    if not where or not saved.config.is_lora:
        return None
    which = _so_many(len(where), "tensor", "holds", "hold")
    return Seen(f"{which} only zeros, where training neither starts nor ends at zero {_places(where)}.", where)


def no_copies(case: Case) -> Seen | None:
    first: dict[tuple[str, str, tuple[int, ...]], str] = {}
    copies = []
    for tensor in case.saved.weights.tensors:
        if case.saved.names[tensor.name].part in FACTORS and tensor.elements and not tensor.all_zero:
            same = first.setdefault((tensor.sha256, tensor.dtype, tensor.shape), tensor.name)
            copies += [tensor.name] if same != tensor.name else []
    if not copies or case.saved.config.layer_replication:
        return None
    which = _so_many(len(copies), "tensor", "equals", "equal")
    return Seen(f"{which} another tensor byte for byte {_places(copies)}.", tuple(copies))


# --------------------------------------------------------------------------------------------------------------- names


def named_as_peft_does(case: Case) -> Seen | None:
    names = case.saved.names
    wrong = tuple(name for name, parsed in names.items() if parsed.foreign or not parsed.prefixed)
    if not wrong or not case.saved.config.is_lora:
        return None
    bare = any(not names[name].prefixed for name in wrong)
    extra = tuple(dict.fromkeys(names[name].foreign for name in wrong if names[name].foreign))
    problems = [f"contain {', '.join(extra)}"] * bool(extra) + [f"lack {PREFIX}"] * bare
    # PEFT 0.21.2 accepts the adapter's name inside a tensor's name; 0.20.0 does not (measured).
    reader = "PEFT" if bare or set(extra) & set(WRAPPERS) else "PEFT before 0.21"
    share = _share(len(wrong), len(names), "tensor")
    return Seen(f"The names of {share} {' and '.join(problems)}: {reader} finds none of them.", wrong)


def in_pairs(case: Case) -> Seen | None:
    halves = [layer for layer in case.saved.layers if None in layer.factors and layer.factors != (None, None)]
    if not halves:
        return None
    parts = [part for layer in halves for part in layer.parts if part in FACTORS]
    kinds = " and ".join(dict.fromkeys(part.value for part in parts))
    where = _of_layers(halves)
    which = _so_many(len(halves), "module", "has", "have")
    return Seen(f"{which} only {kinds}, without the other factor {_places(where)}.", where)


def ranks_as_asked(case: Case) -> Seen | None:
    wrong = [layer for layer in case.saved.layers if _rank_is_wrong(layer)]
    if not wrong or case.saved.config.use_bdlora:
        return None
    seen = dict.fromkeys("/".join(map(str, dict.fromkeys(layer.ranks))) for layer in wrong)
    wanted = dict.fromkeys(str(layer.rank_asked) for layer in wrong)
    share, where = _share(len(wrong), len(case.saved.layers), "module"), _of_layers(wrong)
    return Seen(
        f"The rank is {', '.join(seen)} in {share} where the configuration asks for {', '.join(wanted)} "
        f"{_places(where)}.",
        where,
    )


def _rank_is_wrong(layer: Layer) -> bool:
    if layer.by_parameter:
        # One matrix holds the factors of all experts, and only the base knows the number of experts.
        return len(set(layer.ranks)) > 1
    return any(rank != layer.rank_asked for rank in layer.ranks)


def targets_have_tensors(case: Case) -> Seen | None:
    saved = case.saved
    config, layers = saved.config, saved.layers
    if not config.is_lora:
        return None
    if isinstance(config.target_modules, str):
        without = [] if any(layer.targeted for layer in layers) else [config.target_modules]
    else:
        without = [name for name in _names_without_tensors(saved) if not _may_be_excluded(saved, name)]
    without += [name for name in config.target_parameters or () if not _parameter_adapted(name, layers)]
    if not without:
        return None
    return Seen(f"{_targets_without(without)} no tensor {_places(without)}.", tuple(without))


def exclusion_shows(case: Case) -> Seen | None:
    # If the adapter was loaded into the base, PEFT itself has found the modules to adapt.
    if not case.saved.config.is_lora or (case.loading is not None and not case.loading.error):
        return None
    without = tuple(name for name in _names_without_tensors(case.saved) if _may_be_excluded(case.saved, name))
    if not without:
        return None
    return Seen(
        f"{_targets_without(without)} no tensor {_places(without)}: exclude_modules may exclude all their modules, "
        "which only the base shows.",
        without,
    )


def _targets_without(names: Sequence[str]) -> str:
    verb = "has" if len(names) == 1 else "have"
    return f"{counted(len(names), 'target')} of the configuration {verb}"


def _names_without_tensors(saved: Saved) -> list[str]:
    """Names in target_modules without tensors, except those that PEFT certainly does not adapt."""
    config, wanted = saved.config, saved.config.target_modules
    named = () if isinstance(wanted, str) else wanted or ()
    asked = (name for name in named if not excluded(config, name) and not saved_whole(config, name))
    return [name for name in asked if not any(ends_with(layer.module, name) for layer in saved.layers)]


def _may_be_excluded(saved: Saved, target: str) -> bool:
    """Whether exclude_modules may name every module that ends in `target`, although it does not name `target`."""
    names = saved.config.exclude_modules
    if not isinstance(names, str):
        return any(ends_with(name, target) for name in names or ())
    # An expression matches whole names. A target with the first part of a module of the base is a whole name.
    roots = {layer.module.partition(".")[0] for layer in saved.layers}
    return bool(names) and target.partition(".")[0] not in roots


def _parameter_adapted(name: str, layers: Sequence[Layer]) -> bool:
    parent = name.rpartition(".")[0]
    owners = (re.sub(r"(\.base_layer)+$", "", layer.module) for layer in layers if layer.by_parameter)
    return any(not parent or ends_with(owner, parent) for owner in owners)


def updates_are_asked_for(case: Case) -> Seen | None:
    config, layers = case.saved.config, case.saved.layers
    if config.target_modules is None and config.target_parameters is None:
        return None  # PEFT then uses the defaults of the model type
    stray = _of_layers(layer for layer in layers if not layer.targeted)
    if not stray:
        return None
    lacking = "No target names, or exclude_modules excludes," if config.exclude_modules else "No target names"
    return Seen(f"{lacking} {_share(len(stray), len(layers), 'module')} {_places(stray)}.", stray)


_CLASSIFIERS = ("classifier", "score")
"""Names that PEFT adds to modules_to_save for a classification task; a model has one of the two."""


def saved_whole_is_there(case: Case) -> Seen | None:
    saved = case.saved
    if not saved.config.is_lora:
        return None
    there = {name for name, _ in _asked_whole(saved)}
    missing = tuple(name for name in saved.config.modules_to_save or () if name not in there)
    if any(name in there for name in _CLASSIFIERS):
        missing = tuple(name for name in missing if name not in _CLASSIFIERS)
    if not missing:
        return None
    verb = "has" if len(missing) == 1 else "have"
    return Seen(f"{counted(len(missing), 'name')} of modules_to_save {verb} no tensor {_named(missing)}.", missing)


def _asked_whole(saved: Saved) -> list[tuple[str, str]]:
    """Pairs of a name in modules_to_save and a module with saved tensors that it matches.

    PEFT matches the end of a module's name, even in the middle of a part, and saves everything inside the module.
    """
    whole = dict.fromkeys(name.module for name in saved.names.values() if name.part in WHOLE)
    return [(name, m) for name in saved.config.modules_to_save or () for m in whole if f"{name}." in f"{m}."]


def whole_is_asked_for(case: Case) -> Seen | None:
    saved = case.saved
    if not saved.config.is_lora:
        return None
    asked = {module for _, module in _asked_whole(saved)}
    free = {Part.EMBEDDING, Part.HEAD, *([Part.BIAS] if saved.config.bias != "none" else [])}
    stray = tuple(
        full
        for full, name in saved.names.items()
        if name.part in WHOLE - free and not name.lora and name.module not in asked
    )
    if not stray:
        return None
    which = _so_many(len(stray), "weight", "was", "were")
    return Seen(f"{which} saved whole, although the configuration does not ask for it {_places(stray)}.", stray)


def magnitudes_as_asked(case: Case) -> Seen | None:
    """A DoRA adapter has a magnitude in every module; other adapters have none."""
    dora, layers = case.saved.config.use_dora, case.saved.layers
    wrong = _of_layers(layer for layer in layers if (Part.MAGNITUDE in layer.parts) is not dora)
    if not wrong:
        return None
    problem = "true, and there is no magnitude" if dora else "false, and there is a magnitude"
    share = _share(len(wrong), len(layers), "module")
    return Seen(f"use_dora is {problem} in {share} {_places(wrong)}.", wrong)


def biases_saved(case: Case) -> Seen | None:
    """Trained biases are in the file. Measured: PEFT 0.13.2 to 0.20.0 does not save them, 0.21.2 does."""
    if not case.saved.config.is_lora or case.saved.config.bias != "lora_only":
        return None
    if any(name.part is Part.BIAS for name in case.saved.names.values()):
        return None
    return Seen("bias is lora_only, and no bias was saved: PEFT before 0.21 trains them but does not save them.")


# ------------------------------------------------------------------------------------------------------------- loading


def _under(loading: Loading) -> str:
    return f"Under {loading.stack}"


def loads_at_all(case: Case) -> Seen | None:
    loading = case.loading
    if loading is None or not loading.error:
        return None
    what = "loading fails" if loading.base else "the base cannot be built"
    return Seen(f"{_under(loading)} {what}: {' '.join(loading.error.split())[:300]}")


def nothing_missing(case: Case) -> Seen | None:
    loading = case.loading
    if loading is None or not loading.missing:
        return None
    which = _so_many(len(loading.missing), "parameter", "finds", "find")
    return Seen(
        f"{_under(loading)} {which} no tensor: the adapter keeps its initial values there "
        f"{_their_modules(loading.missing)}.",
        loading.missing,
    )


def nothing_dropped(case: Case) -> Seen | None:
    loading = case.loading
    if loading is None or not loading.unexpected:
        return None
    which = _so_many(len(loading.unexpected), "tensor", "finds", "find")
    return Seen(
        f"{_under(loading)} {which} no place in {loading.base}: PEFT drops {_their_modules(loading.unexpected)}.",
        loading.unexpected,
    )


def shapes_fit(case: Case) -> Seen | None:
    loading = case.loading
    if loading is None or not loading.mismatched:
        return None
    where = tuple(item.name for item in loading.mismatched)
    which, first = _so_many(len(where), "tensor", "has", "have"), loading.mismatched[0]
    return Seen(
        f"{_under(loading)} {which} another shape in {loading.base}, the first "
        f"{list(first.saved)} for {list(first.model)} {_their_modules(where)}.",
        where,
    )


def options_known(case: Case) -> Seen | None:
    """The stack's PEFT knows every option the configuration switches on."""
    loading = case.loading
    if loading is None or loading.error or not loading.unknown_options:
        return None
    options = loading.unknown_options
    version = loading.versions["peft"]
    return Seen(f"{_under(loading)} PEFT {version} does not know and ignores {', '.join(options)}.", options)


ENGINE = Engine[Case](
    ("S201", has_tensors),
    ("S202", gathered),
    ("S204", ever_trained),
    ("S101", not_frozen_when_reloaded),
    ("S102", scaled),
    ("S103", patterns_match),
    ("S104", heads_told_apart),
    ("S105", ends_kept_together),
    ("S106", judged_in_depth),
    ("S107", every_value_read),
    ("S108", no_pickle_beside),
    ("S109", training_shows),
    ("S110", exclusion_shows),
    ("S111", trainable_when_reloaded),
    ("S203", finite),
    ("S205", trained_everywhere),
    ("S206", trained_in_every_expert),
    ("S207", nothing_wiped),
    ("S208", no_copies),
    ("S301", named_as_peft_does),
    ("S302", in_pairs),
    ("S303", ranks_as_asked),
    ("S304", targets_have_tensors),
    ("S305", updates_are_asked_for),
    ("S306", saved_whole_is_there),
    ("S307", magnitudes_as_asked),
    ("S308", whole_is_asked_for),
    ("S309", biases_saved),
    ("S401", loads_at_all),
    ("S402", nothing_missing),
    ("S403", nothing_dropped),
    ("S404", shapes_fit),
    ("S405", options_known),
)
"""All checks of a saved adapter; those that explain other findings come first."""
