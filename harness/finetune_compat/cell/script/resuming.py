"""Let a script resume: from a checkpoint that it finds, or from one that the watch makes.

The watch ends every training after a few steps and redirects its output, so a checkpoint that the script relies on may
not exist.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from transformers import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from finetune_compat.cell.instruments.fingerprints import fingerprints, read
from finetune_compat.cell.script.checkpoints import Checkpoints
from finetune_compat.cell.script.kept import Kept


@dataclass(frozen=True, slots=True)
class Call:
    """One call of `train()`."""

    trainer: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    original: Callable[..., Any]

    @property
    def wanted(self) -> Any:
        """The checkpoint that the call asks for: a path, True for the last one, or None."""
        given = self.kwargs.get("resume_from_checkpoint", self.args[0] if self.args else None)
        return given if given is True or (given and isinstance(given, str | os.PathLike)) else None

    def resuming(self, checkpoint: Any) -> Any:
        """Make the call, with `checkpoint` in place of the one that it asks for."""
        if self.wanted is None:
            return self.original(self.trainer, *self.args, **self.kwargs)
        if "resume_from_checkpoint" in self.kwargs:
            return self.original(self.trainer, *self.args, **{**self.kwargs, "resume_from_checkpoint": checkpoint})
        return self.original(self.trainer, checkpoint, *self.args[1:], **self.kwargs)


def found(trainer: Any, wanted: Any, kept: Kept) -> str | None:
    """The checkpoint that `wanted` names, if it exists: below the trainer's output, or where the script says."""
    if wanted is not True:
        return str(wanted) if Path(wanted).is_dir() else None
    output = str(trainer.args.output_dir)
    places = (output, kept.asked_for(output))
    last = (get_last_checkpoint(place) for place in places if place is not None and Path(place).is_dir())
    return next(filter(None, last), None)


def made(trainer: Any) -> str:
    """Save a checkpoint as the trainer saves one, and return its path."""
    trainer._save_checkpoint(trainer.model, None)
    return str(Path(trainer.args.output_dir, f"checkpoint-{trainer.state.global_step}"))


class Loading(TrainerCallback):
    """Notes whether weights differ between the end of loading a checkpoint and the beginning of training, and whether
    they are those of the checkpoint.
    """

    def __init__(self, trainer: Any, trained: Mapping[str, nn.Parameter], checkpoints: Checkpoints) -> None:
        self.resets = False
        self.unloaded: tuple[int, int] | None = None
        """As `Run.resume_unloaded`."""
        self._trainer, self._trained, self._checkpoints = trainer, trained, checkpoints
        self._loaded: list[int] | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self.resets = self._loaded is not None and self._loaded != self._values()

    def loading(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """`original`, which loads a checkpoint, followed by a note of the weights."""

        def load(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            self._loaded = self._values()
            place = kwargs.get("resume_from_checkpoint", args[0] if args else None)
            self.unloaded = self._checkpoints.unloaded(place, self._trainer.model)
            return result

        return load

    def _values(self) -> list[int]:
        return read(fingerprints(self._trained.values()))


@contextmanager
def watched(trainer: Any, trained: Mapping[str, nn.Parameter], checkpoints: Checkpoints) -> Iterator[Loading]:
    """While open, follow which of `checkpoints` `trainer` loads into the parameters `trained`."""
    note = Loading(trainer, trained, checkpoints)
    trainer._load_from_checkpoint = note.loading(trainer._load_from_checkpoint)
    trainer.add_callback(note)
    try:
        yield note
    finally:
        trainer.remove_callback(note)
        del trainer._load_from_checkpoint
