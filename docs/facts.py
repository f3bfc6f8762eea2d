#!/usr/bin/env python3
"""Fill in the version ranges and scores that documents take from the matrix and from stored records.

    python docs/facts.py            exit code 1 and a list of files that differ from the matrix or the records
    python docs/facts.py --write    update these files

A place in a document is `<!-- fact:trl -->0.4 to 1.16<!-- /fact -->`; the name is that of a package or of a score.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PLACE = re.compile(r"(<!-- fact:([a-z]+) -->)[^<]*(<!-- /fact -->)")


def documents() -> list[Path]:
    """README, CHANGELOG, CONTRIBUTING and every page of docs/ and reports/ that is written by hand."""
    pages = ("*.md", "docs/*.md", "reports/README.md", "reports/benchmarks/README.md")
    return sorted(path for pattern in pages for path in ROOT.glob(pattern))


def facts() -> dict[str, str]:
    """All facts by name."""
    return {**versions(), **scores()}


def scores() -> dict[str, str]:
    """Number of faults that are planted with the checks in view."""
    from finetune_compat.evidence import faults

    return {"planted": str(len(faults.planted()))}


def versions() -> dict[str, str]:
    """Oldest and newest minor version of each package in the CPU locks, such as `0.4 to 1.16`."""
    command = [sys.executable, "-m", "finetune_compat", "stacks", "--json"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    locks = [lock for row in json.loads(answer) for name, lock in row["locks"].items() if not name.endswith("-cuda")]
    resolved = [lock["resolved"] for lock in locks if lock["state"] == "locked"]
    packages = set.intersection(*map(set, resolved))
    return {package: _span([Version(found[package]) for found in resolved]) for package in packages}


def _span(versions: list[Version]) -> str:
    oldest, newest = min(versions), max(versions)
    return f"{oldest.major}.{oldest.minor} to {newest.major}.{newest.minor}"


def filled_in(text: str, known: dict[str, str]) -> str:
    """`text` with every place filled in."""
    return PLACE.sub(lambda place: f"{place[1]}{known[place[2]]}{place[3]}", text)


def main(arguments: list[str]) -> int:
    """Update the documents with --write; else list those that are stale."""
    known = facts()
    stale = [path for path in documents() if filled_in(text := path.read_text("utf-8"), known) != text]
    for path in stale:
        print(path.relative_to(ROOT))
        if "--write" in arguments:
            path.write_text(filled_in(path.read_text("utf-8"), known), "utf-8")
    return int(bool(stale) and "--write" not in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
