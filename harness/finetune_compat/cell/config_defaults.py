"""List the fields of this stack's configuration classes, with their defaults: run as a module, with a request and an
answer file.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def answer_to(request: Mapping[str, Any]) -> dict[str, Any]:
    """By class, the `repr` of each field's default. Classes that this stack does not have are left out.

    Args:
        request: `classes`, each as `module:name`.
    """
    found = {}
    for place in request["classes"]:
        module, _, name = place.partition(":")
        try:
            config = getattr(importlib.import_module(module), name)
        except Exception:  # noqa: BLE001, S112 - a class that cannot be imported counts as missing
            continue
        found[name] = {field.name: _default(field) for field in dataclasses.fields(config) if field.init}
    return found


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return _formatted(field.default)
    if field.default_factory is dataclasses.MISSING:
        return "required"
    try:
        return _formatted(field.default_factory())
    except Exception as error:  # noqa: BLE001 - a factory may need the environment of a real run
        return f"made by {getattr(field.default_factory, '__name__', 'a factory')} ({type(error).__name__})"


def _formatted(value: Any) -> str:
    """The `repr` of `value` without memory addresses and dated folders, which differ although nothing changed."""
    text = re.sub(r" at 0x[0-9a-f]+", "", repr(value))
    return re.sub(r"^(['\"]).*/runs/[A-Z][a-z]{2}\d+_.*\1$", "a folder named after the moment", text)


if __name__ == "__main__":
    asked, answered = map(Path, sys.argv[1:])
    answered.write_text(json.dumps(answer_to(json.loads(asked.read_text(encoding="utf-8")))), encoding="utf-8")
