"""Bytecode of packages, which environments share: what one has compiled the next one need not.

Compiling what a stack imports takes longer than importing it, and most of it, torch above all, is the same in every
stack. uv links an environment's sources from its cache, so that they have the same time in each; where they are copied
instead Python finds the bytecode stale and compiles as ever.

    <cache>/<python3.11>/<package>-<version>-<hash of its sources>/<path in site-packages>.pyc
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def lend(site: Path, cache: Path) -> None:
    """Give the packages in `site`, a new environment's site-packages, the bytecode that `cache` has of them.

    It is one file with several names. Python itself sees to it that none is used whose source is another.
    """
    for _, kept in _packages(site, cache):
        for pyc in kept.rglob("*.pyc"):
            _link(pyc, site / pyc.relative_to(kept))


def keep(site: Path, cache: Path) -> None:
    """Keep in `cache` the bytecode that was compiled in `site`."""
    for sources, kept in _packages(site, cache):
        for source in sources:
            path = Path(source)
            pyc = path.parent / "__pycache__" / f"{path.stem}.{_tag(site)}.pyc"
            if (site / pyc).exists():
                _link(site / pyc, kept / pyc)


def _link(one: Path, other: Path) -> None:
    # It may be there already, or be on another file system. What is not linked is compiled where it is missing.
    with suppress(OSError):
        other.parent.mkdir(parents=True, exist_ok=True)
        os.link(one, other)


def _tag(site: Path) -> str:
    return site.parent.name.replace("python", "cpython-").replace(".", "")


def _packages(site: Path, cache: Path) -> Iterator[tuple[list[str], Path]]:
    """The sources of every package in `site`, by path in it, and the folder where their bytecode is kept."""
    for record in site.glob("*.dist-info/RECORD"):
        lines = [line for line in record.read_text(encoding="utf-8").splitlines() if ".py,sha256=" in line]
        # Nothing outside: scripts name the environment they are in, and are compiled by nobody.
        inside = [line for line in lines if not line.startswith(("..", "/"))]
        digest = hashlib.sha256("\n".join(sorted(inside)).encode()).hexdigest()
        folder = cache / site.parent.name / f"{record.parent.stem}-{digest[:16]}"
        yield [line.partition(",sha256=")[0] for line in inside], folder
