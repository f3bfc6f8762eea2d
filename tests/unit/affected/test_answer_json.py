"""The answer as JSON: what counts, what is accepted, and the evidence."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
from affected_builders import locked, project
from finetune_compat.affected.answer_json import as_json, schema
from finetune_compat.affected.hits import Answer, answer
from finetune_compat.affected.packages import Project
from finetune_compat.affected.proofs import Proof
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.checks.windows_measured import MeasuredEdge, read_windows

LEDGER = load_ledger()
PROOF = Proof(
    issue="trl#3926",
    shows=0,
    cell="trl0.22-py311/sft-peft-model[qwen2-nf4-gc]@cpu",
    baseline="cpu",
    observation="ab" * 32,
    measured="2026-11-24T00:00:00Z",
    command="compat run trl0.22",
)


def asked(of: Project) -> Answer:
    """What the ledger says."""
    return answer(of, LEDGER)


def written(
    of: Answer,
    accepted: dict[str, str] | None = None,
    proofs: Sequence[Proof] = (),
    measured: Sequence[MeasuredEdge] = (),
) -> dict[str, Any]:
    """The JSON, valid against its schema."""
    found: dict[str, Any] = json.loads(as_json(of, accepted or {}, proofs, ["a note"], measured))
    jsonschema.validate(found, json.loads(schema("affected")))
    return found


def test_the_flagship_has_all_that_its_user_must_know() -> None:
    """Its place, its remedy, the safe release and the proof."""
    found = written(asked(locked()), proofs=[PROOF, replace(PROOF, issue="trl#1")])
    assert (found["affected"], found["known"], found["complete"], found["notes"]) == (True, True, True, ["a note"])
    assert found["packages"][0] == {"name": "trl", "version": "0.22.2", "specifier": "==0.22.2", "at": "uv.lock:1"}
    (flagship,) = (issue for issue in found["issues"] if issue["id"] == "trl#3926")
    assert flagship["safe"] == [{"package": "trl", "version": "0.23.1"}]
    assert (flagship["certainty"], flagship["severity"], flagship["counts"]) == ("hit", "learns nothing", True)
    assert "uv.lock:1" in flagship["at"]
    assert flagship["evidence"] == [
        {"cell": PROOF.cell, "observation": PROOF.observation, "command": PROOF.command},
    ]


def test_each_edge_says_what_it_rests_on() -> None:
    """Only some are measured by package; the others lie between stacks, where other packages differ too."""
    measured = [edge for edge in read_windows() if edge.edge == "trl>=0.20.0"]
    found = written(asked(locked()), measured=measured)
    (flagship,) = (issue for issue in found["issues"] if issue["id"] == "trl#3926")
    assert {"package": "trl", "edge": ">=0.20.0", "measured": "by package"} in flagship["edges"]
    assert {"package": "trl", "edge": "<0.23.1", "measured": "between stacks"} in flagship["edges"]
    assert {edge["measured"] for issue in written(asked(locked()))["issues"] for edge in issue["edges"]} == {
        "between stacks"
    }


def test_a_project_is_not_affected_if_every_bug_is_accepted() -> None:
    """One that is not accepted is enough."""
    of = asked(locked())
    bugs = {hit.issue.id: "why" for hit in of.hits if hit.counts}
    found = written(of, bugs)
    assert found["affected"] is False
    assert {issue["accepted"] for issue in found["issues"] if issue["counts"]} == {"why"}
    assert written(of, {name: "why" for name in bugs if name != "trl#3926"})["affected"] is True


@pytest.mark.parametrize("of", [project(trl=">=0.19", complete=False), project(numpy="==2.0")])
def test_ranges_and_unknown_projects_are_valid(of: Project) -> None:
    """A package outside the ledger is not listed."""
    found = written(asked(of))
    assert found["known"] is ("trl" in of.packages)
    assert [package["version"] for package in found["packages"]] == [None] * len(found["packages"])


def test_releases_newer_than_the_measured_ones_are_named() -> None:
    """And what could not be read."""
    of = replace(asked(locked(trl="==99.0")), project=replace(locked(trl="==99.0"), unread=("x: odd",)))
    found = written(of)
    assert (found["newer_than_measured"], found["unread"]) == (["trl 99.0"], ["x: odd"])
