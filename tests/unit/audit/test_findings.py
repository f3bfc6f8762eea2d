"""A finding is joined with the versions of a project: inside a window, outside, or not known."""

from __future__ import annotations

import ast
from dataclasses import replace

import builders as b
import pytest
from audit_builders import source
from finetune_compat.audit.findings import Finding, Fix, Releases, Status, status_of
from finetune_compat.audit.values import Place
from finetune_compat.checks.ledger import Ledger
from finetune_compat.checks.patterns import PATTERNS

VERSIONS = {"trl": "0.22.2", "transformers": "4.56.0"}


@pytest.mark.parametrize(
    ("windows", "inside"),
    [
        ({}, True),
        ({"trl": ">=0.20,<0.23.1"}, True),
        ({"trl": "<0.20"}, False),
        ({"trl": ">=0.20", "transformers": "<4.50"}, False),
        ({"trl": ">=0.20", "peft": ">=0.17"}, None),
        # One window that does not hold decides, whatever the unknown package is.
        ({"trl": "<0.20", "peft": ">=0.17"}, False),
        ({"peft": ">=0.17"}, None),
    ],
)
def test_versions_are_in_all_windows(windows: dict[str, str], inside: bool | None) -> None:
    """Or it is not known."""
    assert Releases(VERSIONS).inside(windows) is inside


def test_a_prerelease_can_be_in_a_window() -> None:
    """It has the bugs of its release."""
    assert Releases({"trl": "0.22.0rc1"}).inside({"trl": ">=0.20,<0.23"}) is True


LOW = replace(b.FLAGSHIP, windows={"trl": "<0.10"}, flows=("sft-full",))
HIGH = replace(b.FLAGSHIP, windows={"trl": ">=0.20", "peft": ">=0.17"}, flows=("sft-peft-model",))
LEDGER = Ledger(issues=(b.issue(LOW, HIGH), b.issue(name="trl#1")))


@pytest.mark.parametrize(
    ("versions", "flows", "listed"),
    [
        ({"trl": "0.22.2", "peft": "0.17.1"}, (), True),
        ({"trl": "0.22.2", "peft": "0.17.1"}, ("sft-peft-model",), True),
        ({"trl": "0.22.2", "peft": "0.17.1"}, ("sft-full",), False),
        ({"trl": "0.22.2"}, (), None),
        ({"trl": "0.9.6"}, (), True),
        ({"trl": "0.15.0"}, (), False),
        ({}, ("sft-full",), None),
    ],
)
def test_an_issue_is_listed_for_versions_and_flows(
    versions: dict[str, str], flows: tuple[str, ...], listed: bool | None
) -> None:
    """One of its ways to show is enough."""
    assert Releases(versions, ledger=LEDGER).listed("trl#3926", *flows) is listed


def test_an_issue_that_is_not_in_the_ledger_is_not_listed() -> None:
    """A pattern may have none."""
    assert Releases(VERSIONS, ledger=LEDGER).listed("other") is False


def test_the_windows_of_an_issue_for_a_package() -> None:
    """Each once, in the order of the ledger."""
    twice = Ledger(issues=(b.issue(LOW, HIGH, replace(LOW, check="F001")),))
    found = Releases({}, ledger=twice)
    assert found.windows("trl#3926", "trl") == ("<0.10", ">=0.20")
    assert found.windows("trl#3926", "peft") == (">=0.17",)
    assert found.windows("trl#1", "trl") == ()


def test_versions_are_named_as_their_libraries_are() -> None:
    """Those that are known."""
    found = Releases({**VERSIONS, "numpy": "2.0"})
    assert found.text("trl", "peft", "transformers", "numpy") == "TRL 0.22.2, Transformers 4.56.0, numpy 2.0"


@pytest.mark.parametrize(
    ("inside", "unsure", "status"),
    [
        (True, (), Status.HIT),
        (True, (None, "", False), Status.HIT),
        (True, ("a condition",), Status.RUN),
        (None, (), Status.RUN),
        (False, (), Status.NOT_HIT),
        (False, ("a condition",), Status.NOT_HIT),
    ],
)
def test_the_status(inside: bool | None, unsure: tuple[object, ...], status: Status) -> None:
    """Outside of the window nothing else matters."""
    assert status_of(inside, *unsure) is status


def test_a_fix_that_changes_nothing_is_none() -> None:
    """Each kind of change is one."""
    node = ast.parse("f()").body[0]
    assert [bool(Fix(node, **change)) for change in ({}, {"add": {"a": "1"}}, {"remove": ("a",)})] == [  # type: ignore[arg-type]
        False,
        True,
        True,
    ]
    assert Fix(node, rename={"a": "b"})


@pytest.mark.parametrize("name", PATTERNS)
def test_a_finding_has_its_pattern(name: str) -> None:
    """By its name."""
    script = source("f()")
    assert Finding(name, Status.HIT, Place(script, script.tree), "why").of is PATTERNS[name]
