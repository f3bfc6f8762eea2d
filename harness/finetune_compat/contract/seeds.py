"""The value of the option `--seeds`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Seeds:
    """A number of seeds. If `first` is None, they are seeds that no committed sweep has used."""

    number: int
    first: int | None = None


def parse_seeds(text: str) -> Seeds:
    """Parse a number (`200`: two hundred seeds) or an inclusive range (`200-399`).

    Raises:
        argparse.ArgumentTypeError: `text` is neither, or contains no seed.
    """
    first, dash, last = text.partition("-")
    if not first.isdigit() or not (last.isdigit() if dash else last == ""):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seeds or a range such as 200-399")
    seeds = Seeds(int(last) - int(first) + 1, int(first)) if dash else Seeds(int(first))
    if seeds.number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} contains no seed")
    return seeds
