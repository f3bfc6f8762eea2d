"""finetune-compat: shows whether fine-tuning still trains on a set of versions, and which release and line broke it."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finetune_compat.cell.guard import TrainingGuard, TrainingStopped
    from finetune_compat.cell.instruments.perturbation import evaluation_responds

from finetune_compat.contract.version import __version__

__all__ = ["TrainingGuard", "TrainingStopped", "__version__", "evaluation_responds"]

_FROM = {
    "TrainingGuard": "finetune_compat.cell.guard",
    "TrainingStopped": "finetune_compat.cell.guard",
    "evaluation_responds": "finetune_compat.cell.instruments.perturbation",
}


def __getattr__(name: str) -> Any:
    """Import the public names on first use: the host side has no torch."""
    if name in _FROM:
        return getattr(importlib.import_module(_FROM[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
