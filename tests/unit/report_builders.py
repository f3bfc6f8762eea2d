"""Healthy cells of a run, and a pipe to print a report to."""

from __future__ import annotations

import io

from builders import NF4, healthy, on_trl
from finetune_compat.contract.records import Observation, Variant
from rich.console import Console

STACK = "trl0.22-py311"


def at(flow: str = "sft-peft-model", variant: Variant = NF4, stack: str = STACK) -> Observation:
    """Make a healthy cell on TRL 0.22."""
    return healthy(flow, variant, stack=stack, versions=on_trl("0.22.2"))


def on(stack: str, trl: str = "0.22.2", flow: str = "sft-peft-model", variant: Variant = NF4) -> Observation:
    """Make a healthy cell of a stack."""
    return healthy(flow, variant, stack=stack, versions=on_trl(trl))


def plain(width: int) -> tuple[Console, io.StringIO]:
    """A pipe of this width."""
    out = io.StringIO()
    return Console(file=out, width=width, color_system=None, force_terminal=False), out
