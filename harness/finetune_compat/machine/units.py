"""Parse and format amounts."""

from __future__ import annotations

import re

_SIZE = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?) ?(?:(?P<letter>[KMGT])(?P<binary>i?)B?|B)?", re.IGNORECASE)


def bytes_of(text: str) -> int | None:
    """Bytes of a size, for example `1500000000`, `1500MB`, `1.5 GB` or `60MiB`, upper or lower case.

    None if `text` is not a valid size above 0.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        return None
    power = " KMGT".index(found["letter"].upper()) if found["letter"] else 0
    return int(float(found["number"]) * (1024 if found["binary"] else 1000) ** power) or None


def counted(number: int, what: str) -> str:
    """A number with its noun, for example `1 cell` or `1,000 cells`."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")
