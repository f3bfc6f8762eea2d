"""Statements as SARIF."""

from __future__ import annotations

import json

from affected_builders import BARE, RULE, note
from finetune_compat.affected.sarif import sarif


class TestSarif:
    def test_the_required_properties_are_there(self) -> None:
        """Those that section 3 of SARIF 2.1.0 requires, and those that GitHub's code scanning needs."""
        log = json.loads(sarif([note(), note(rule=BARE, accepted="why")], [RULE, BARE]))
        assert log["version"] == "2.1.0"
        (run,) = log["runs"]
        driver = run["tool"]["driver"]
        assert driver["name"]
        assert [rule["id"] for rule in driver["rules"]] == ["trl#3926", "pad-is-end"]
        assert ["helpUri" in rule for rule in driver["rules"]] == [True, False]
        for result in run["results"]:
            assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
            assert result["level"] in ("error", "warning", "note", "none")
            assert result["message"]["text"]
            (place,) = result["locations"]
            assert place["physicalLocation"]["region"]["startLine"] >= 1
            assert place["physicalLocation"]["artifactLocation"]["uri"] == "a%20b/train.py"
            assert result["partialFingerprints"]
        assert [result.get("suppressions") for result in run["results"]] == [
            None,
            [{"kind": "external", "justification": "why"}],
        ]

    def test_a_statement_keeps_its_fingerprint_when_lines_move(self) -> None:
        """Another message has another one."""
        results = json.loads(sarif([note(), note(line=9), note(message="n")], [RULE]))["runs"][0]["results"]
        first, moved, other = (result["partialFingerprints"] for result in results)
        assert first == moved != other
