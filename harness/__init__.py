"""finetune-compat: does fine-tuning still train on these versions, and if not, since when and because of which line."""

__version__ = "0.1.0"
