"""Annotations of GitHub Actions. Texts from files cannot break out of them."""

from __future__ import annotations

from affected_builders import note
from finetune_compat.affected.github import commands
from finetune_compat.affected.notes import Level


class TestAnnotations:
    def test_signs_of_the_format_are_escaped(self) -> None:
        """A message cannot begin another command, a file name cannot add a property."""
        text = commands([note(message="100%\n::set-env::x", file="a,line=1:b.py")])
        assert text == ("::error file=a%2Cline=1%3Ab.py,line=3,title=trl#3926%3A a%2C b%3A c::100%25%0A::set-env::x\n")

    def test_levels_have_their_commands_and_accepted_statements_none(self) -> None:
        """A note is called notice there."""
        notes = [note(level=Level.WARNING), note(level=Level.NOTE), note(accepted="why")]
        assert [line.split()[0] for line in commands(notes).splitlines()] == ["::warning", "::notice"]
