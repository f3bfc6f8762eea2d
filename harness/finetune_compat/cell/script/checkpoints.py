"""The weights of the checkpoints that trainers save in this process, and what a resume loads of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import nn

from finetune_compat.cell.instruments.census import subject
from finetune_compat.cell.instruments.fingerprints import fingerprints, read

Values = Mapping[str, tuple[Any, ...]]
"""Shape, data type and fingerprint of each trained tensor, by name."""


class Checkpoints:
    """Notes the trained weights at every checkpoint."""

    def __init__(self) -> None:
        self._saved: dict[Path, Values] = {}

    def saving(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """`original`, which saves a trainer's checkpoint, followed by a note of its weights."""

        @functools.wraps(original)
        def save(trainer: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(trainer, *args, **kwargs)
            with suppress(Exception):  # an instrument must not end the script; without the note nothing is compared
                place = Path(trainer.args.output_dir, f"checkpoint-{trainer.state.global_step}").resolve()
                self._saved[place] = values_of(trainer.model)
            return result

        return save

    def unloaded(self, place: Any, model: nn.Module) -> tuple[int, int] | None:
        """How many trained tensors of `model`, which has loaded the checkpoint `place`, do not have its values, and how
        many were compared; None if the checkpoint is of another process, or of other tensors.
        """
        saved = self._saved.get(Path(str(place)).resolve())
        now = values_of(model)
        if saved is None or {name: value[:-1] for name, value in saved.items()} != {
            name: value[:-1] for name, value in now.items()
        }:
            return None
        return sum(saved[name] != value for name, value in now.items()), len(now)


def values_of(model: nn.Module) -> Values:
    """The trained tensors of `model`: of its active adapters, or without adapters all that are trainable."""
    trained = {name: parameter for name, parameter in subject(model).items() if parameter.requires_grad}
    prints = read(fingerprints(trained.values())) if trained else []
    return {
        name: (tuple(parameter.shape), str(parameter.dtype), bits)
        for (name, parameter), bits in zip(trained.items(), prints, strict=True)
    }
