"""The seeds that `--seeds` asks for."""

from __future__ import annotations

import argparse
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Seeds:
    """So many seeds: from the first one named, or any that no kept sweep has."""

    number: int
    first: int | None = None


def parse_seeds(text: str) -> Seeds:
    """`200` is two hundred, `200-399` the span with both ends.

    Raises:
        argparse.ArgumentTypeError: it is neither, or holds no seed.
    """
    first, dash, last = text.partition("-")
    if not first.isdigit() or not (last.isdigit() if dash else last == ""):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of seeds nor a span such as 200-399")
    seeds = Seeds(int(last) - int(first) + 1, int(first)) if dash else Seeds(int(first))
    if seeds.number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} holds no seed")
    return seeds
