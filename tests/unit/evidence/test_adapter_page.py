"""The page of saved adapters: what does not load whole, who said so before, and which releases share it."""

from __future__ import annotations

from pathlib import Path

import finetune_compat
import pytest
from finetune_compat.evidence.adapter_corpus import stacks_by_peft
from finetune_compat.evidence.adapter_page import page, spans
from finetune_compat.evidence.adapter_record import Corpus, Load, Outcome, Save, read_corpus
from finetune_compat.stacks.matrix import read_matrix

COMMITTED = Path(finetune_compat.__file__).parents[2] / "reports" / "adapters"

OLD, MIDDLE, NEW = "0.15.2", "0.17.1", "0.21.2"
RELEASES = (OLD, MIDDLE, NEW)


def loads(method: str, outcomes: dict[tuple[str, str], Outcome], **changed: object) -> list[Load]:
    """A load of each pair of releases; one that is not in `outcomes` is whole."""
    pairs = [(saved, loaded) for i, saved in enumerate(RELEASES) for loaded in RELEASES[i:]]
    return [
        Load(method, *pair, outcomes.get(pair, Outcome.LOADS), "", (), **changed)  # type: ignore[arg-type]
        for pair in pairs
    ]


def corpus(found: list[Load], *saves: Save) -> Corpus:
    """A corpus of three releases."""
    methods = dict.fromkeys(load.method for load in found)
    made = [Save(method, release, "", ()) for method in methods for release in RELEASES]
    versions = {release: {"peft": release, "transformers": f"5.{release}"} for release in RELEASES}
    return Corpus("2026-11-30", "0123456789abcdef", versions, (*made, *saves), tuple(found))


def test_adapters_of_several_releases_share_a_row() -> None:
    """If the same releases lose them in the same way."""
    lost = {(OLD, NEW): Outcome.HALF, (MIDDLE, NEW): Outcome.HALF}
    text = page(corpus([*loads("OFT", lost), *loads("LORA", {})]))
    losses = text.split("## Adapters that are not loaded whole")[1].split("##")[0]
    assert "| `OFT` | 0.15.2 to 0.17.1 | 0.21.2 | half loads |  | no |" in losses
    assert "LORA" not in losses
    assert "| `OFT` | 0.15.2 to 0.21.2 | 4 | 2 | 0 | healthy |" in text
    assert "| `LORA` | 0.15.2 to 0.21.2 | 6 | 0 | 0 | healthy |" in text


def test_what_inspect_foretold_stands_beside_what_happened() -> None:
    """What it foretold and did not happen has a table of its own."""
    fails = Load("BONE", MIDDLE, NEW, Outcome.FAILS, "KeyError: 'BONE'", ("S401",))
    alarm = Load("VERA", MIDDLE, NEW, Outcome.LOADS, "", ("S403",))
    losses, alarms = page(corpus([fails, alarm])).split("## Foretold and not seen")
    assert "| `BONE` | 0.17.1 | 0.21.2 | does not load | KeyError: 'BONE' | S401 |" in losses
    assert "| `VERA` | 0.17.1 | 0.21.2 | loads |  | S403 |" in alarms


def test_a_method_that_could_not_be_saved_has_its_reason() -> None:
    """Once for all releases with the same error, and it counts nowhere else."""
    refused = [Save("POLY", release, "ValueError: task_ids should not be None.", ()) for release in RELEASES]
    text = page(corpus(loads("LORA", {}), *refused))
    assert "| `POLY` | 0.15.2 to 0.21.2 | ValueError: task\\_ids should not be None. |" in text
    assert "| `POLY` | never | 0 | 0 | 0 |  |" in text


def test_a_false_alarm_about_the_files_alone_is_named() -> None:
    """The adapter was trained and is whole."""
    text = page(corpus([Load("LOHA", OLD, OLD, Outcome.LOADS, "", ())], Save("LOHA", OLD, "", ("S204",))))
    assert "S204 |" in text


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], ""),
        ([OLD], "0.15.2"),
        ([OLD, MIDDLE], "0.15.2 to 0.17.1"),
        ([NEW, OLD], "0.15.2, 0.21.2"),
    ],
)
def test_releases_are_written_as_ranges(found: list[str], expected: str) -> None:
    """Of what is consecutive among all releases."""
    assert spans(found, RELEASES) == expected


def test_the_committed_page_is_what_the_record_says_today() -> None:
    """No sentence changed without it."""
    assert (COMMITTED / "adapters.md").read_text(encoding="utf-8") == page(read_corpus(COMMITTED / "corpus.json"))


def test_the_record_has_every_release_of_the_matrix() -> None:
    """A new one is a run of `nox -s corpus`."""
    assert list(read_corpus(COMMITTED / "corpus.json").versions) == list(stacks_by_peft(read_matrix()))


def test_inspect_reports_no_trained_adapter_of_any_release_as_unhealthy() -> None:
    """From its files alone. Every one of them was trained and saved whole."""
    assert {
        (save.method, save.peft): save.findings
        for save in read_corpus(COMMITTED / "corpus.json").saves
        if save.findings
    } == {}
