"""The answer as text: laid out for any width, and safe to print."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from affected_builders import locked, project
from finetune_compat.affected.hits import Answer, answer
from finetune_compat.affected.packages import Project
from finetune_compat.affected.proofs import Proof
from finetune_compat.affected.terminal import page, wrapped
from finetune_compat.checks.ledger_file import load_ledger

LEDGER = load_ledger()
PROOF = Proof(
    issue="trl#3926", shows=0, cell="", baseline="", observation="", measured="", command="compat run trl0.22 --flows x"
)
WHERE_FACTS_BEGIN = 13
"""Column: after the indentation and the name of a fact."""


def asked(of: Project) -> Answer:
    """What the ledger says."""
    return answer(of, LEDGER)


def shown(of: Answer, accepted: Mapping[str, str] | None = None, columns: int = 200) -> str:
    """The page."""
    return page(of, accepted or {}, [PROOF], [], columns)


class TestWrapped:
    def test_further_lines_stand_below_the_first(self) -> None:
        """Spaces take the place of the head."""
        assert wrapped("one two three", 10, head="do ", indent=" ") == [" do one", "    two", "    three"]

    def test_a_long_word_stays_whole(self) -> None:
        """An address can be copied."""
        assert wrapped("see https://example.org/a-b", 10) == ["see", "https://example.org/a-b"]

    def test_an_empty_text_has_one_line(self) -> None:
        """That of its head."""
        assert wrapped("", 10, head="link  ") == ["link"]

    def test_control_characters_are_replaced(self) -> None:
        """A file may hold any text."""
        assert wrapped("a\x1b[2Jb\nc", 80) == ["a?[2Jb c"]


def test_the_flagship_is_told_with_all_its_facts() -> None:
    """From its place to its proof."""
    text = shown(asked(locked()))
    assert text.startswith("uv.lock: trl 0.22.2, transformers 4.56.0, peft 0.17.1, bitsandbytes 0.47.0\n")
    part = text.partition("trl#3926 learns nothing (hit)\n")[2].partition("\n\n")[0]
    assert "   at        uv.lock:1 trl 0.22.2\n" in part
    assert "   safe      trl==0.23.1\n" in part
    assert "   link      https://github.com/huggingface/trl/issues/3926\n" in part
    assert part.endswith("   proof     compat run trl0.22 --flows x")


@pytest.mark.parametrize("columns", [60, 100])
def test_lines_fit_unless_a_word_is_longer(columns: int) -> None:
    """A terminal would wrap them anywhere."""
    for line in shown(asked(locked()), columns=columns).splitlines():
        assert len(line) <= columns or len(line[WHERE_FACTS_BEGIN:].split()) == 1


def test_accepted_issues_have_their_reason_and_do_not_count() -> None:
    """They stay visible."""
    of = asked(locked())
    bugs = {hit.issue.id: "we hand over the base model" for hit in of.hits if hit.counts}
    text = shown(of, bugs)
    assert "\nAccepted:\n" in text
    assert text.count("we hand over the base model") == len(bugs)
    assert text.splitlines()[-1] == "No known issue of these versions."


def test_what_is_no_bug_of_these_releases_is_listed_apart() -> None:
    """With what it needs."""
    of = asked(locked())
    text = shown(of).partition("No bug of these releases, and possible with them")[2]
    traps = [hit for hit in of.hits if not hit.counts]
    assert traps and all(f"{hit.issue.id} {hit.harm}: {hit.issue.needs}" in " ".join(text.split()) for hit in traps)


@pytest.mark.parametrize(
    ("of", "sentence"),
    [
        (project(numpy="==2"), "Could not tell: no package of the ledger is named."),
        (project(trl="==99.0"), "Newer than every measured release, so nothing is known about it: trl 99.0."),
        (
            project(trl=">=0.19", complete=False),
            (
                "Not named, so what depends on them alone is not told: "
                "transformers, peft, bitsandbytes. A lock file tells."
            ),
        ),
    ],
)
def test_what_is_not_known_is_told(of: Project, sentence: str) -> None:
    """It is not the same as nothing found."""
    assert sentence in shown(asked(of)).splitlines()


def test_the_conclusion_counts_what_is_sure_and_what_a_range_allows() -> None:
    """What is installed decides between them."""
    of = asked(locked())
    hits = sum(hit.counts for hit in of.hits)
    assert shown(of).splitlines()[-1].startswith(f"{hits} known issue{'s' if hits > 1 else ''} of these versions. ")
    wide = asked(project(trl=">=0.19", complete=False))
    allowed = sum(hit.counts for hit in wide.hits)
    assert f", and {allowed} that a range allows" in shown(wide).splitlines()[-1]


def test_what_is_not_read_is_named() -> None:
    """After the issues."""
    of = replace(asked(locked()), project=replace(locked(), unread=("-e ../ours: a folder",)))
    assert "Not read: -e ../ours: a folder" in shown(of).splitlines()
