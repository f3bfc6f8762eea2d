"""The settled field notes: the committed report agrees with the committed baseline and the census."""

from __future__ import annotations

import field_notes
import pytest
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.machine.places import places
from finetune_compat.results.run_files import Results, judged

BASELINES = places().baselines

REPORT = (places().reports / "field-notes.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def baseline() -> Results:
    """The committed baseline under today's ledger."""
    return judged(BASELINES / "cpu", load_ledger())


@pytest.mark.parametrize(
    "figure",
    [
        "161,480,704 of 8,452,856,320 logical (1.9104 %) | reproduced",
        "161,480,704 of 4,853,357,056 stored (3.33 %) | reproduced",
        "1,091,870,720 of 4,691,876,352 stored (23.27 %)",
        "8,291,375,616 of 8,291,375,616 (100 %) | reproduced",
        "28 q_proj in the language model and 0 in the vision encoder, 32 qkv",
        "| N1 | a load in 4 bits leaves 0 trainable | trl0.22: 1,091,870,720; trl1.16: 1,092,377,088 | refuted |",
        "| N1 | prepare_model_for_kbit_training leaves 0 trainable | 0 | reproduced |",
        "| N3 | 0 trainable in the vision encoder | 0; with qkv, fc1, fc2 among the targets 36,700,160 | reproduced |",
    ],
)
def test_the_figures_of_the_reported_model_are_reproduced(figure: str) -> None:
    """N1 and N3 agree to the last digit; `--closed-forms` compares the census that counts them with loaded models."""
    assert figure in REPORT


def test_vision_adapters_follow_from_their_layers() -> None:
    """32 blocks x r 64 x (qkv 1280 + 3840, fc1 1280 + 5120, fc2 5120 + 1280), and no fourth name."""
    assert 32 * 64 * ((1280 + 3840) + (1280 + 5120) + (5120 + 1280)) == 36_700_160


@pytest.mark.parametrize("rule", field_notes._MEASURED, ids=lambda rule: rule.__name__)
def test_the_committed_report_agrees_with_the_baseline(rule: object, baseline: Results) -> None:
    """A new baseline without a new page fails here."""
    assert callable(rule)
    assert f"| {field_notes._cells(rule(baseline))} |" in REPORT


def test_every_statement_has_a_ruling() -> None:
    """The table has one line with a ruling for each."""
    rows = [line for line in REPORT.splitlines() if line.startswith("| N")]
    assert len(rows) == len(field_notes._COUNTED) + len(field_notes._MEASURED)
    assert all(any(f"| {ruling} |" in row for ruling in field_notes.Ruling) for row in rows)
