"""finetune-compat: does fine-tuning still train on these versions, and if not, since when and because of which line."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.cell.guard import TrainingGuard, TrainingStopped
    from harness.cell.instruments.perturbation import evaluation_responds

__version__ = "0.1.0"
__all__ = ["TrainingGuard", "TrainingStopped", "__version__", "evaluation_responds"]

_FROM = {
    "TrainingGuard": "harness.cell.guard",
    "TrainingStopped": "harness.cell.guard",
    "evaluation_responds": "harness.cell.instruments.perturbation",
}


def __getattr__(name: str) -> Any:
    """What a user's own training imports; not before it does, because the host side has no torch."""
    if name in _FROM:
        return getattr(importlib.import_module(_FROM[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
