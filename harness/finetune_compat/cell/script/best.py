"""Does the trainer load the best checkpoint at the end? Tried with other weights in their place.

If the best checkpoint is the last one, loading it changes nothing, and a failed load looks like a successful one. So
the trained weights are replaced before the load, and compared afterwards with those that the checkpoint was saved from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback

from finetune_compat.cell.instruments.census import subject
from finetune_compat.cell.instruments.fingerprints import fingerprints, read


class BestLog:
    """Follows one training that loads its best checkpoint when it ends."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._saved: dict[str, dict[str, int]] = {}
        self.compared = self.differ = 0

    def saving(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """`_save_checkpoint`, followed by a note of the trained weights."""

        def save(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            self._saved[f"checkpoint-{self._trainer.state.global_step}"] = _values(self._trained())
            return result

        return save

    def loading(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """`_load_best_model`, tried on other weights. If it leaves any of them, all are put back as they were."""

        def load(*args: Any, **kwargs: Any) -> Any:
            expected = self._saved.get(Path(str(self._trainer.state.best_model_checkpoint)).name)
            if expected is None:
                return original(*args, **kwargs)
            before = {name: parameter.detach().clone() for name, parameter in self._trained().items()}
            with torch.no_grad():
                for parameter in self._trained().values():
                    parameter.add_(1)
            try:
                return original(*args, **kwargs)
            finally:
                found = _values(self._trained())
                wrong = [name for name, value in expected.items() if found.get(name) != value]
                self.compared, self.differ = len(expected), len(wrong)
                with torch.no_grad():
                    for name in wrong:
                        if name in before and name in found:
                            self._trained()[name].copy_(before[name])

        return load

    def _trained(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in subject(self._trainer.model).items() if p.is_floating_point()}


class _Due(TrainerCallback):
    """Lets the trainer save when it ends, and takes that for the best checkpoint where there is none yet: the watch
    ends training before the script's own evaluation or save is due.
    """

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if control.should_training_stop and not state.best_model_checkpoint:
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if control.should_training_stop and not state.best_model_checkpoint:
            state.best_model_checkpoint = str(Path(args.output_dir, f"checkpoint-{state.global_step}"))


@contextmanager
def followed(trainer: Any, *, tried: bool) -> Iterator[BestLog | None]:
    """While open, the best checkpoint of `trainer` is compared as it is loaded. None if the script asks for none, or if
    it is not to be `tried`. Add the callback that ends training before.
    """
    if not tried or not getattr(trainer.args, "load_best_model_at_end", False):
        yield None
        return
    log, due = BestLog(trainer), _Due()
    changed = {"_save_checkpoint": log.saving, "_load_best_model": log.loading}
    for name, change in changed.items():
        setattr(trainer, name, change(getattr(trainer, name)))
    trainer.add_callback(due)
    try:
        yield log
    finally:
        trainer.remove_callback(due)
        for name in changed:
            vars(trainer).pop(name, None)


def _values(trained: dict[str, nn.Parameter]) -> dict[str, int]:
    return dict(zip(trained, read(fingerprints(trained.values())), strict=True))


def gives_itself(model: nn.Module, state: Any) -> bool:
    """Whether `state` has the tensors of `model` itself, and no copy: to load them changes nothing."""
    own = {tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers()) if tensor.numel()}
    given = [tensor for tensor in state.values() if isinstance(tensor, torch.Tensor) and tensor.numel()]
    return bool(given) and all(tensor.data_ptr() in own for tensor in given)
