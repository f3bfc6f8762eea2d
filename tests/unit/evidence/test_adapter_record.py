"""The outcome of a load follows from the model's answers, and the record is read as it was written."""

from __future__ import annotations

from pathlib import Path

import pytest
from finetune_compat.contract.errors import RecordsError
from finetune_compat.evidence.adapter_record import Corpus, Load, Outcome, Save, corpus_text, outcome, read_corpus

NAN = float("nan")


@pytest.mark.parametrize(
    ("error", "moved", "off", "off_base", "drift", "expected"),
    [
        ("KeyError: 'BONE'", 4.0, 4.0, 0.0, 0.0, Outcome.FAILS),
        ("", 4.0, 1e-5, 4.0, 1e-5, Outcome.LOADS),
        ("", 4.0, 4.0, 0.0, 0.0, Outcome.NOTHING),
        ("", 4.0, 2.3, 3.9, 0.0, Outcome.HALF),
        # A model that answers NaN after loading is not the trained one.
        ("", 4.0, float("inf"), float("inf"), 0.0, Outcome.HALF),
        # Training changed nothing, or the base is another one here: the answers say nothing about the adapter.
        ("", 0.0, 0.0, 0.0, 0.0, Outcome.UNKNOWN),
        ("", NAN, 0.0, 0.0, 0.0, Outcome.UNKNOWN),
        ("", 4.0, 1e-5, 4.0, 0.5, Outcome.UNKNOWN),
    ],
)
def test_the_outcome_follows_from_the_answers(
    error: str, moved: float, off: float, off_base: float, drift: float, expected: Outcome
) -> None:
    """Within 1 % of what training changed, a model is the same."""
    assert outcome(error, moved, off, off_base, drift) is expected


CORPUS = Corpus(
    measured="2026-11-30",
    commit="0123456789abcdef",
    versions={"0.17.1": {"peft": "0.17.1", "transformers": "4.56.0", "torch": "2.13.0"}},
    saves=(Save("LORA", "0.17.1", "", ()), Save("POLY", "0.17.1", "ValueError: task_ids", ())),
    loads=(Load("LORA", "0.17.1", "0.17.1", Outcome.LOADS, "", ("S402",)),),
)


def test_a_record_reads_as_it_was_written(tmp_path: Path) -> None:
    """With a line for each adapter and each load."""
    (tmp_path / "corpus.json").write_text(corpus_text(CORPUS))
    assert read_corpus(tmp_path / "corpus.json") == CORPUS
    assert sum('"method"' in line for line in corpus_text(CORPUS).splitlines()) == 3


@pytest.mark.parametrize("text", ["", "{}", '{"measured": 3}'])
def test_what_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    """With the command that makes it again."""
    (tmp_path / "corpus.json").write_text(text)
    with pytest.raises(RecordsError, match="nox -s corpus"):
        read_corpus(tmp_path / "corpus.json")
