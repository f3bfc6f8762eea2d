"""The Markdown file of an atlas, exactly, drawn from the runs of golden scenarios as if they were committed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from finetune_compat.atlas.command import atlas_files
from finetune_compat.checks.ledger_file import load_ledger

HERE = Path(__file__).parent
EXPECTED = HERE / "atlas" / "expected" / "atlas.md"
ORIGIN = {
    "first_cell": "2026-11-20T12:00:00+00:00",
    "last_cell": "2026-11-21T13:00:00+00:00",
    "harness_version": "0.1.0",
    "kept_at_commit": "5f" * 20,
}


def test_the_table_reads_as_accepted(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """Of two baselines: one with an unlisted failure, a lost cell and a stack that could not be installed."""
    for name in ("mixed-window", "healthy"):
        shutil.copytree(HERE / name / "run", tmp_path / "baseline" / name)
        (tmp_path / "baseline" / name / "provenance.json").write_text(json.dumps(ORIGIN), encoding="utf-8")
    ledger = load_ledger(HERE / "mixed-window" / "ledger.toml")
    text = atlas_files(tmp_path / "baseline", tmp_path / "atlas", ledger)["atlas.md"]
    if pytestconfig.getoption("--accept", default=False):
        EXPECTED.write_text(text, encoding="utf-8")
    assert text == EXPECTED.read_text(encoding="utf-8"), (
        "Read it; if it is what you meant: pytest tests/golden --accept"
    )
