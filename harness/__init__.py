"""finetune-compat: does fine-tuning still train on these versions, and if not, since when and because of which line."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.cell.guard import TrainingGuard, TrainingStopped

__version__ = "0.1.0"
__all__ = ["TrainingGuard", "TrainingStopped", "__version__"]


def __getattr__(name: str) -> Any:
    """What a user's own training imports; not before it does, because the host side has no Transformers."""
    if name in ("TrainingGuard", "TrainingStopped"):
        from harness.cell import guard

        return getattr(guard, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
