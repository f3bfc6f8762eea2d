"""A configuration of the project is read, and of any other file nothing is known."""

from __future__ import annotations

from pathlib import Path

import pytest
from audit_builders import plain, value_of
from finetune_compat.audit.config_files import LARGEST_FILE
from finetune_compat.audit.values import Table

PROGRAM = "import yaml\nx = yaml.safe_load(open('{}'))\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.yaml", "lora:\n  r: 8\n  targets: [q, v]\n"), ("a.json", '{"lora": {"r": 8, "targets": ["q", "v"]}}')],
)
def test_a_configuration_of_the_project_is_read(tmp_path: Path, name: str, content: str) -> None:
    """YAML or JSON."""
    (tmp_path / name).write_text(content)
    found = value_of(PROGRAM.format(name), root=tmp_path)
    assert plain(found) == {"lora": {"r": 8, "targets": ["q", "v"]}}


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("a: &b [1]\nc: *b\n", "a.yaml"),
        ("a: [\n", "a.yaml"),
        (f"a: {'1' * LARGEST_FILE}\n", "a.yaml"),
        ("a: 1\n", "../outside.yaml"),
        ("a: 1\n", "gone/a.yaml"),
    ],
)
def test_what_is_not_read_may_hold_anything(tmp_path: Path, content: str, name: str) -> None:
    """Aliases, a damaged or a large file, one outside of the project, and none."""
    project = tmp_path / "project"
    project.mkdir()
    if not name.startswith("gone"):
        (project / name).write_text(content)
    found = value_of(PROGRAM.format(name), root=project)
    assert isinstance(found, Table)
    assert (found.items, found.open) == ({}, True)
