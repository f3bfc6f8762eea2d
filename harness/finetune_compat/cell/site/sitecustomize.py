# ruff: noqa: INP001 - a directory of its own is how Python finds it
"""Python imports this before the user's script, in every process that has this directory on its PYTHONPATH.

Whatever starts the script (`python`, `accelerate launch`, `torchrun`), it runs as it always does, and is watched.
"""

import importlib.machinery
import importlib.util
import os
import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
# Not resolved: where this package is installed, it is reached through a link in a directory that holds nothing else.
_ROOT = str(Path(__file__).parents[3])


def _watch() -> None:
    # Only this package is exposed, and only while it is imported.
    sys.path.insert(0, _ROOT)
    try:
        from finetune_compat.cell.script import process

        process.begin()
    finally:
        sys.path.remove(_ROOT)


def _run_the_other() -> None:
    """An environment may have a `sitecustomize` of its own, which this one hides."""
    sys.path[:] = [place for place in sys.path if Path(place or ".").resolve() != _HERE]
    other = importlib.machinery.PathFinder.find_spec("sitecustomize", sys.path)
    if other is not None and other.loader is not None:
        other.loader.exec_module(importlib.util.module_from_spec(other))


_run_the_other()
if "COMPAT_WATCH" in os.environ:
    _watch()
