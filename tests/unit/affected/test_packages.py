"""How a message writes what a project asks for."""

from __future__ import annotations

import pytest
from finetune_compat.affected.packages import Asked
from packaging.specifiers import SpecifierSet


@pytest.mark.parametrize(
    ("specifier", "version", "text"),
    [
        ("==0.22.2", "0.22.2", "trl 0.22.2"),
        ("===0.22.2", "0.22.2", "trl 0.22.2"),
        ("==0.22.*", None, "trl ==0.22.*"),
        (">=0.20", None, "trl >=0.20"),
        ("==0.22.2,<1", None, "trl"),
        ("", None, "trl, any version"),
    ],
)
def test_an_exact_version_is_written_alone(specifier: str, version: str | None, text: str) -> None:
    """A range keeps its operators."""
    asked = Asked("trl", SpecifierSet(specifier), "uv.lock", 7)
    assert asked.version == version
    assert asked.text.startswith(text)
    assert asked.where == "uv.lock:7"
