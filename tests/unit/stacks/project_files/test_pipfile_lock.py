"""Pipfile.lock, version 6."""

from __future__ import annotations

import re

from project_builders import CASES, read


def test_a_real_pipfile_lock() -> None:
    """Every entry is a package; those of `develop` are in the group dev."""
    found = read("pipenv/Pipfile.lock")
    text = (CASES / "pipenv" / "Pipfile.lock").read_text()
    assert len(found.packages) == len(re.findall(r'"version": "==', text))
    lines = text.splitlines()
    assert all(f'"{item.name}": {{' in lines[item.place.line - 1].lower() for item in found.packages)
    assert {item.name for item in found.packages if item.groups} == {
        *("iniconfig", "packaging", "pluggy", "pygments", "pytest")
    }
    assert "trl==0.22.2" in map(str, found.packages)
