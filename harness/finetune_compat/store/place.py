"""Where this machine's store is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

HERE = "COMPAT_STORE"
"""Environment variable that names another directory."""


def default_root(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the store is unless an argument says otherwise."""
    named = environ.get(HERE)
    if named:
        return Path(named).expanduser().resolve()
    cache = environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "finetune-compat" / "store"
