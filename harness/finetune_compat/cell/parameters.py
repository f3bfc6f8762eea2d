"""List the arguments of this stack's classes: run as a module, with a request and an answer file."""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def answer_to(request: Mapping[str, Any]) -> dict[str, list[str]]:
    """The arguments of each class, in order. Classes that this stack does not have are left out.

    Args:
        request: `classes`, each as `module:name`.
    """
    found = {}
    for place in request["classes"]:
        module, _, name = place.partition(":")
        try:
            owner = getattr(importlib.import_module(module), name)
        except Exception:  # noqa: BLE001, S112 - a class that cannot be imported counts as missing
            continue
        found[place] = [one for one in inspect.signature(owner.__init__).parameters if one != "self"]
    return found


if __name__ == "__main__":
    asked, answered = map(Path, sys.argv[1:])
    answered.write_text(json.dumps(answer_to(json.loads(asked.read_text(encoding="utf-8")))), encoding="utf-8")
