"""DPOTrainer can be imported."""

from trl import DPOTrainer

assert isinstance(DPOTrainer, type), "DPOTrainer is no class"
