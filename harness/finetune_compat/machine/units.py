"""Amounts as people write and read them."""

from __future__ import annotations

import re

_SIZE = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?) ?(?:(?P<letter>[KMGT])(?P<binary>i?)B?|B)?", re.IGNORECASE)


def bytes_of(text: str) -> int | None:
    """Bytes of `1500000000`, `1500MB`, `1.5 GB` or `60MiB`, in either case; None where it is no amount above 0."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        return None
    power = " KMGT".index(found["letter"].upper()) if found["letter"] else 0
    return int(float(found["number"]) * (1024 if found["binary"] else 1000) ** power) or None


def counted(number: int, what: str) -> str:
    """Such as `1 cell` or `1,000 cells`."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")
