"""The ledger lists the issues of a cell."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from builders import FLAGSHIP, FULL, INT8, KBIT, LISTED, NF4, NF4_NOGC, VERSIONS, issue, on_trl
from finetune_compat.checks.ledger import Ledger, Measured
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.contract.records import DeviceKind, Stage, Variant
from hypothesis import given
from hypothesis import strategies as st
from ledger_builders import ENTRY, FREEZE, PLACES, written


def listed(ledger: Ledger = LISTED, variant: Variant = NF4, **versions: str) -> bool:
    """Return whether anything is listed for a CPU cell of the flow sft-peft-model."""
    return bool(ledger.listed("sft-peft-model", variant, DeviceKind.CPU, {**VERSIONS, **versions}))


@pytest.mark.parametrize(
    ("version", "inside"),
    [
        ("0.19.1", False),
        ("0.20.0", True),
        ("0.22.0.dev0", True),
        ("0.23.0", True),
        ("0.23.0.post1", True),
        ("0.23.0+local", True),
        ("0.23.1.dev0", False),
        ("0.23.1", False),
        ("0.9.6", False),
    ],
)
def test_a_window_takes_in_versions_as_numbers_and_pre_releases_too(version: str, inside: bool) -> None:
    """The development version in which users found trl#3926 is inside its window."""
    assert listed(trl=version) is inside


@given(st.sampled_from([{"device": DeviceKind.CUDA}, {"models": ("llama",)}, {"gradient_checkpointing": False}]))
def test_every_restriction_restricts(changes: dict[str, object]) -> None:
    """An entry for other devices, models or variants does not apply."""
    narrowed = dataclasses.replace(FLAGSHIP, **changes)  # type: ignore[arg-type]  # fields by name
    assert listed(trl="0.22.2")
    assert not listed(Ledger(issues=(issue(narrowed),)), trl="0.22.2")


def test_variants_are_chosen_by_precision_and_checkpointing() -> None:
    """An entry selects its precisions, and both values of gradient checkpointing if it has none."""
    assert [listed(variant=variant, trl="0.22.2") for variant in (NF4, NF4_NOGC, INT8, FULL)] == [
        True,
        True,
        True,
        False,
    ]


def test_all_windows_must_hold_and_a_missing_package_is_in_none() -> None:
    """Two windows must both hold; a missing package is inside no window."""
    both = Ledger(issues=(issue(dataclasses.replace(FLAGSHIP, windows={"trl": ">=0.20", "peft": "<0.17"})),))
    assert not listed(both, trl="0.22.2")
    assert listed(both, trl="0.22.2", peft="0.16.0")
    assert not both.listed("sft-peft-model", NF4, DeviceKind.CPU, {"trl": "0.22.2"})


def test_a_deviation_carries_the_evidence_of_its_signature() -> None:
    """The judge sees the check, the call chain that froze, and the kind."""
    [deviation] = LISTED.listed("sft-peft-model", NF4, DeviceKind.CPU, on_trl("0.22.2"))
    assert (deviation.issue, deviation.check, deviation.froze) == ("trl#3926", "C104", KBIT)
    assert (deviation.stage, deviation.kind) == (Stage.TRAINING, "upstream")


@pytest.mark.parametrize(
    ("peft", "chains"),
    [("0.17.1", ["peft/a.py::old"]), ("0.18.0", ["peft/b.py::caller -> peft/b.py::new"]), (None, [])],
)
def test_a_place_is_where_the_release_has_it(tmp_path: Path, peft: str | None, chains: list[str]) -> None:
    """Without a place for the release nothing is listed, so that the deviation fails."""
    ledger = load_ledger(written(tmp_path, PLACES + ENTRY.replace(FREEZE, 'froze = "freeze"')))
    versions = {"trl": "0.22.2"} | ({"peft": peft} if peft else {})
    listed = ledger.listed("sft-peft-model", NF4, DeviceKind.CPU, versions)
    assert [deviation.froze for deviation in listed] == chains


@pytest.mark.parametrize(
    ("versions", "deep", "text"),
    [
        ({"trl": "0.22.0"}, False, ""),
        ({"trl": "0.22.0.post1"}, False, "trl 0.22.0.post1, measured until 0.22.0"),
        ({"trl": "0.22.0"}, True, "trl 0.22.0, measured until 0.21.0"),
        ({"peft": "1.0"}, False, ""),
    ],
)
def test_a_release_is_beyond_what_was_measured_of_its_package(
    versions: dict[str, str], *, deep: bool, text: str
) -> None:
    """Packages that are not rows of the matrix do not count."""
    measured = Measured(quick={"sft-full": {"trl": "0.22.0"}}, deep={"sft-full": {"trl": "0.21.0"}})
    assert measured.beyond("sft-full", versions, deep=deep) == text
    assert measured.beyond("another", versions, deep=deep) == "no baseline has the flow"
