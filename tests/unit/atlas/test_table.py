"""The Markdown file: small, with a row for each issue and flow, and foreign text escaped. See tests/golden."""

from __future__ import annotations

import dataclasses
import re

import builders as b
from atlas_builders import FIELD, drawn, kept, on
from finetune_compat.atlas import table
from finetune_compat.atlas.record import Record, Said
from finetune_compat.checks.ledger import Ledger
from finetune_compat.results.branches import Uncovered


def test_every_row_has_the_columns_of_its_head() -> None:
    """Also if a title has a bar."""
    issue = dataclasses.replace(b.issue(), title="a | b <img> `c`")
    text = table.render(*drawn(FIELD, Ledger(issues=(issue,))))
    tables = re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE)
    assert len(tables) == 2
    for found in tables:
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in found.splitlines()}) == 1
    assert r"a \| b \<img> \`c\`" in text


def test_news_are_there_only_if_there_are_any() -> None:
    """With a heading."""
    found, issues, first = drawn(FIELD)
    assert "## New since" not in table.render(found, issues, first)
    before = Said("2026-01-01", "", first.now.issues, first.now.states)
    text = table.render(found, issues, Record(1, first.now, before))
    assert "## New since the atlas before\n\n- The stack to be on is trl0.24-py311; it was none.\n" in text


def test_without_a_stack_to_be_on_there_is_nothing_to_install() -> None:
    """And the file says so."""
    text = table.render(*drawn({"cpu": kept(b.frozen(on("0.22.2")))}))
    assert "No measured stack trains any flow of documented usage." in text
    assert "pip install" not in text


def test_the_branches_that_no_cell_took_are_a_sentence_with_a_link() -> None:
    """To the page that lists them."""
    traced = dataclasses.replace(FIELD["cpu"], uncovered={"trl0.22-py311": Uncovered(58, 28, 4)})
    assert "48% were not taken on this device" in table.render(*drawn({**FIELD, "cpu": traced}))
    assert "[Which ones](../branches/branches.md)" in table.render(*drawn({**FIELD, "cpu": traced}))
    assert "branches.md" not in table.render(*drawn(FIELD))
