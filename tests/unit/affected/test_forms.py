"""The forms of statements: SARIF and annotations. Texts from files cannot break out of either."""

from __future__ import annotations

import json

from finetune_compat.affected.github import commands
from finetune_compat.affected.notes import Level, Note, Rule, one_line
from finetune_compat.affected.sarif import sarif

RULE = Rule(id="trl#3926", title="a, b: c", help="Do.", link="https://example.org/")
BARE = Rule(id="pad-is-end", title="t", help="h")


def note(**fields: object) -> Note:
    base = {"rule": RULE, "level": Level.ERROR, "message": "m", "file": "a b/train.py", "line": 3}
    return Note(**{**base, **fields})  # type: ignore[arg-type]


class TestAnnotations:
    def test_signs_of_the_format_are_escaped(self) -> None:
        """A message cannot begin another command, a file name cannot add a property."""
        text = commands([note(message="100%\n::set-env::x", file="a,line=1:b.py")])
        assert text == ("::error file=a%2Cline=1%3Ab.py,line=3,title=trl#3926%3A a%2C b%3A c::100%25%0A::set-env::x\n")

    def test_levels_have_their_commands_and_accepted_statements_none(self) -> None:
        """A note is called notice there."""
        notes = [note(level=Level.WARNING), note(level=Level.NOTE), note(accepted="why")]
        assert [line.split()[0] for line in commands(notes).splitlines()] == ["::warning", "::notice"]


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


def test_control_characters_do_not_reach_a_terminal() -> None:
    """Neither escape sequences nor line ends."""
    assert one_line("a\x1b[31m\nb\u202e") == "a?[31m b?"
