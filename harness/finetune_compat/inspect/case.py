"""The input and the findings of the checks of a saved adapter, and the wording that they share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from packaging.version import InvalidVersion, Version

from finetune_compat.inspect.layers import Layer
from finetune_compat.inspect.loading import Loading
from finetune_compat.inspect.names import PREFIX, WHOLE, parse, places
from finetune_compat.inspect.saved import Saved
from finetune_compat.inspect.weights import Tensor
from finetune_compat.machine.units import counted

MOST = 3
"""Maximum number of places or values in a sentence; `where` has all of them."""


@dataclass(frozen=True, slots=True)
class Case:
    """The input of a check."""

    saved: Saved
    loading: Loading | None
    """The result of loading under a stack; None if no stack was given."""
    vocabulary: int | None = None
    """Rows of the base's vocabulary; None if they are not known."""


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


def named(names: Sequence[str]) -> str:
    """The first `MOST` of `names`, in brackets, with the number of the others."""
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return f"({', '.join(names[:MOST])}{more})"


def named_places(names: Iterable[str]) -> str:
    return named(places(name.removeprefix(PREFIX) for name in names))


def named_modules(names: Iterable[str]) -> str:
    # A prompt tensor belongs to no module: use its own name.
    return named_places(parse(name).module or name for name in names)


def so_many(number: int, noun: str, one: str, more: str) -> str:
    """Subject and verb: the count with the noun, and `one` or `more` as the verb."""
    return f"{counted(number, noun)} {one if number == 1 else more}"


def share_of(part: int, whole: int, noun: str) -> str:
    return f"all {counted(whole, noun)}" if 1 < part == whole else f"{part:,} of {counted(whole, noun)}"


_TRAINS_BIASES = Version("0.10")
"""The first PEFT that trains the biases of `bias="lora_only"`, by its new BaseTunerLayer.bias. Measured: an adapter of
0.9.0 trained none.
"""


def trains_biases(saved: Saved) -> bool:
    """Whether the PEFT that saved a LoRA adapter with `bias="lora_only"` trains biases; True if it is not known."""
    found = saved.beside.versions.get("peft", "")
    try:
        return Version(found) >= _TRAINS_BIASES
    except InvalidVersion:
        return True


def modules_of(layers: Iterable[Layer]) -> tuple[str, ...]:
    return tuple(layer.module for layer in layers)


def names_of(tensors: Iterable[Tensor]) -> tuple[str, ...]:
    return tuple(tensor.name for tensor in tensors)


def asked_whole(saved: Saved) -> list[tuple[str, str]]:
    """Pairs of a name in modules_to_save and a module with saved tensors that it matches.

    PEFT matches the end of a module's name, even in the middle of a part, and saves everything inside the module.
    """
    whole = dict.fromkeys(name.module for name in saved.names.values() if name.part in WHOLE)
    return [(name, m) for name in saved.config.modules_to_save or () for m in whole if f"{name}." in f"{m}."]
