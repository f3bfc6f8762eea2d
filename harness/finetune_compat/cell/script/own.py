"""What belongs to the script itself, and not to a library."""

from __future__ import annotations

import sys


def is_own(module: str) -> bool:
    """Whether a class or function of `module` is the script's: no library has it, and no repository of a model."""
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    return module == "__main__" or not (module.startswith("transformers_modules") or "site-packages" in file)
