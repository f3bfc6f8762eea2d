"""A gate's files: the published schema, and the limits of the places they are shown in."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree as ET

import gates
import pytest
from finetune_compat.checks.comparison import Change
from finetune_compat.contract.records import Stage
from finetune_compat.gate.decision import Aspect, Decision, Difference, Gate
from finetune_compat.gate.report import answer_json, html, junit, markdown
from jsonschema import Draft202012Validator


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Gate:
    """The answer in which everything happens at once."""
    import shutil

    run = tmp_path_factory.mktemp("runs") / "mixed"
    shutil.copytree(gates.FOLDER / "mixed" / "run", run)
    return gates.gate_of("mixed", run)


def test_the_committed_schema_is_that_of_the_code() -> None:
    """Made by `compat schema`."""
    assert answer_json.SCHEMA.read_text(encoding="utf-8") == answer_json.schema(), "write it anew: compat schema"


def test_the_schema_is_one() -> None:
    """By the meta-schema of its draft."""
    Draft202012Validator.check_schema(json.loads(answer_json.schema()))


@pytest.mark.parametrize(
    "change", [("decision", "MAYBE"), ("reason", None), ("cells", [{}]), ("moved", [{"package": 3}])]
)
def test_the_schema_refuses_what_is_no_answer(gate: Gate, change: tuple[str, object]) -> None:
    """It is more than `{}`."""
    told = json.loads(answer_json.render(gate))
    told["gate"][change[0]] = change[1]
    assert not Draft202012Validator(json.loads(answer_json.schema())).is_valid(told)


def test_a_comment_that_would_be_refused_says_what_it_leaves_out(gate: Gate) -> None:
    """The decision and the worst cause always fit."""
    text = markdown.render(gate, 2_500)
    assert len(text.encode()) <= 2_500
    assert text.startswith(f"{markdown.MARKER}\n# BLOCK: ")
    assert "sections left out, as no more than 2,500 bytes are shown here. gate.html has all of it." in text


def test_the_limits_are_the_providers(gate: Gate) -> None:
    """65,536 characters of a comment; 1 MiB of a step's summary."""
    assert markdown.COMMENT < 65_536
    assert markdown.STEP_SUMMARY < 1024**2
    assert len(markdown.render(gate, markdown.COMMENT).encode()) <= markdown.COMMENT


def test_a_gate_without_cells_is_not_green_in_junit(gate: Gate) -> None:
    """Where no side could be installed there is nothing to count, and one error says so."""
    bare = replace(gate, cells=(), causes=(), flows=(), decision=Decision.COULD_NOT_TELL, reason="Nothing is known.")
    (suite,) = ET.fromstring(junit.render(bare))  # noqa: S314 - our own
    assert (suite.get("tests"), suite.get("errors")) == ("1", "1")
    (error,) = suite.iter("error")
    assert (error.get("message"), error.text) == ("Nothing is known.", f"run it again: {gate.command}")


def test_a_gate_that_allows_nothing_has_no_error_in_junit_beside_its_failures(gate: Gate) -> None:
    """The one of the whole is for suites that have none."""
    (suite,) = ET.fromstring(junit.render(gate))  # noqa: S314 - our own
    assert suite.get("tests") == str(len(gate.cells))


def test_what_differs_in_healthy_cells_is_told(gate: Gate) -> None:
    """The terminal sends its reader to gate.md for all of it."""
    differs = Difference(Aspect.CHECKPOINTING, Stage.TRAINER, "off", "reentrant")
    first, *others = gate.cells
    changed = replace(gate, cells=(replace(first, change=Change.UNCHANGED, differences=(differs,)), *others))
    row = f"| gradient checkpointing | trainer | off | reentrant | 1 | {first.flow} |"
    assert row in markdown.render(changed, markdown.STEP_SUMMARY)
    assert "<td>reentrant</td><td>1</td>" in html.render(changed)
