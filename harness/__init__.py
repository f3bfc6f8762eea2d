"""finetune-compat: does fine-tuning still train on these versions, and if not, since when and because of which line."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.cell.instruments.perturbation import evaluation_responds

__version__ = "0.1.0"
__all__ = ["__version__", "evaluation_responds"]


def __getattr__(name: str) -> Any:
    """What a user's own script imports; not before it does, because the host side has no torch."""
    if name == "evaluation_responds":
        from harness.cell.instruments import perturbation

        return perturbation.evaluation_responds
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
