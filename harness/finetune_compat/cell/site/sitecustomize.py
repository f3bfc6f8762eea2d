# ruff: noqa: INP001 - Python imports it from a directory on PYTHONPATH, not from a package
"""Python imports this module before the user's script, in every process that has this directory on its PYTHONPATH.

The script runs as without it, and is watched, also when `accelerate launch` or `torchrun` starts it.
"""

import importlib.machinery
import importlib.util
import os
import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
# Not resolved: an installed package is reached through a link in a directory that holds nothing else.
_ROOT = str(Path(__file__).parents[3])


def _watch() -> None:
    # The script can import nothing else of the checkout: the path is removed after the import.
    sys.path.insert(0, _ROOT)
    try:
        from finetune_compat.cell.script import process

        process.begin()
    finally:
        sys.path.remove(_ROOT)


def _run_the_other() -> None:
    """Run the environment's own `sitecustomize`, if there is one: this module hides it."""
    sys.path[:] = [place for place in sys.path if Path(place or ".").resolve() != _HERE]
    other = importlib.machinery.PathFinder.find_spec("sitecustomize", sys.path)
    if other is not None and other.loader is not None:
        other.loader.exec_module(importlib.util.module_from_spec(other))


_run_the_other()
if "COMPAT_WATCH" in os.environ:
    _watch()
