"""What a training begins with, and the code of the project that it calls."""

from __future__ import annotations

from finetune_compat.audit.arguments import Given
from finetune_compat.audit.interpreter import Path
from finetune_compat.audit.values import Const, Function, Instance, Items, Model, Place, Table, Training, Value, const

_HOOKS = (
    "on_train_begin",
    "on_epoch_begin",
    "on_step_begin",
    "on_step_end",
    "on_log",
    "on_evaluate",
    "on_save",
    "on_epoch_end",
)
_OVERRIDES = ("training_step", "compute_loss", "prediction_step")


def start(path: Path, training: Training, place: Place) -> None:
    """A training begins: it keeps the state of its model, also after the code of the project that it calls."""
    _remember(training)
    _hooks(path, training, place)
    _remember(training)


def _hooks(path: Path, training: Training, place: Place) -> None:
    """Follow the project's code that training calls: methods of callbacks and of the trainer."""
    model = training.model
    if model is None:
        return
    callbacks = training.given.get("callbacks")
    for one in callbacks.items if isinstance(callbacks, Items) else []:
        for name in _HOOKS:
            hook = path.attribute(one, name) if isinstance(one, Instance) else None
            if isinstance(hook, Function):
                unknown = [Value(), Value(), Value()]
                path.call_function(hook, Given(unknown, {"model": model}, place, open=True))
    for name in _OVERRIDES:
        override = path.attribute(training, name) if training.own is not None else None
        if isinstance(override, Function):
            path.call_function(override, Given([model], {}, place, open=True))


def _remember(training: Training) -> None:
    """Copy what training begins with: later calls on the model do not change it."""
    model, known = training.model, training.given.get("at_start")
    if isinstance(model, Model):
        if isinstance(known, Table):  # a freeze by code that training calls counts, unless the model was frozen before
            for name, event in (("frozen", model.frozen), ("off", model.off)):
                if const(known.items[name]) is None and event is not None:
                    known.items[name] = Const(event)
                    known.items["while training"] = Const(True)
            return
        training.given["at_start"] = Table(
            {"frozen": Const(model.frozen), "off": Const(model.off), "adapters": Const(model.adapters)}
        )
