"""Matrices, lock plans and answers of the resolver, for the tests of locks and of everything that reads locks."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

from finetune_compat.stacks.matrix import LockPlan, parse_matrix

FLOOR = date(2025, 7, 29)
HASH = "a" * 64
_LINE = f"    --hash=sha256:{HASH}"
BODY = f"trl==0.22.2 \\\n{_LINE}\nnumpy==2.3.2 \\\n{_LINE} \\\n{_LINE}\n"
NO_SOLUTION = (
    "error: No solution found when resolving dependencies\n"
    "  cause: Because trl==0.22.2 depends on transformers>=4.55.0 and you require\n"
    "         transformers<4.55.0, we can conclude that your requirements are unsatisfiable.\n"
    "\n"
    "hint: something about pre-releases"
)


def document(*rows: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A whole, valid document with these rows on its TRL axis."""
    return {
        "torch": {"version": "2.13.0", "platform": ["triton"]},
        "resolve": {
            "floor": FLOOR,
            "packages": ["trl", "transformers", "bitsandbytes"],
            "tools": ["pytest"],
            "platform": "x86_64-manylinux_2_28",
            "pythons": ["3.11"],
        },
        "exempt": [
            {"package": "torch", "until": date(2026, 7, 8), "why": "every row runs on it"},
            {"package": "bitsandbytes", "device": "cuda", "until": date(2025, 9, 30), "why": "CUDA 13"},
        ],
        "axes": [{"package": "trl", "stacks": list(rows) or [row()]}],
    } | changes


def row(**changes: Any) -> dict[str, Any]:
    """A valid row."""
    return {"pin": "0.22.2", "released": date(2025, 9, 3)} | changes


def lock_plan(**changes: Any) -> LockPlan:
    """The plan of one valid row."""
    matrix = parse_matrix(document(row()))
    return replace(matrix.plan(matrix.stacks[0], "3.11"), **changes)
