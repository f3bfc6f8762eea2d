"""The page: complete without scripts, loads nothing, every square leads to its cells, and foreign text is text."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
from collections.abc import Mapping
from functools import cache
from html.parser import HTMLParser

import builders as b
from atlas_builders import FIELD, drawn, kept, on
from finetune_compat.atlas import page
from finetune_compat.atlas.survey import State, survey
from finetune_compat.contract.records import Frame, Stage
from finetune_compat.report.html import asset
from finetune_compat.results.branches import Uncovered
from finetune_compat.results.run_files import Results

HOSTILE = "<img src=x onerror=alert(1)> & \"quoted\" 'text' </script>"


def text(results: Mapping[str, Results] = FIELD) -> str:
    """The page of some baselines."""
    return page.render(*drawn(results))


class Seen(HTMLParser):
    """Ids, links, titles of squares, and tags of a page."""

    def __init__(self) -> None:
        """Nothing yet."""
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.squares: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect."""
        found = dict(attrs)
        self.tags.append(tag)
        if found.get("id"):
            self.ids.append(found["id"] or "")
        if tag == "a":
            self.links.append(found["href"] or "")
        if tag == "td" and "title" in found:
            self.squares.append(found)


@cache
def seen() -> Seen:
    """The page of the field."""
    found = Seen()
    found.feed(text())
    return found


def test_every_link_inside_the_page_leads_somewhere() -> None:
    """And no id is there twice."""
    inside = {link[1:] for link in seen().links if link.startswith("#")}
    assert inside <= set(seen().ids)
    assert len(seen().ids) == len(set(seen().ids))
    assert "sft-peft-model--trl0.22-py311" in inside


def test_passing_cells_are_reachable_with_their_losses() -> None:
    """Not only those that fail."""
    part = text().partition('id="sft-peft-model--trl0.24-py311"')[2].partition("</div>")[0]
    assert "trains</strong> (1)" in part
    assert re.search(r"qwen2-nf4-gc 4\.\d\d→4\.\d\d", part)


def test_a_square_says_in_words_what_its_sign_means() -> None:
    """A sign or a colour never stands alone."""
    titles = [square["title"] for square in seen().squares]
    assert "0.22.2: silently does not (1 silently do not, 1 crash)" in titles
    assert "0.24.0: trains (1 train)" in titles
    assert "latest: trains (1 train)" in titles
    legend = text().partition('id="grid"')[2].partition("</ul>")[0]
    assert all(f"<strong>{state}</strong>" in legend for state in State)


def test_a_stack_on_no_axis_has_a_column() -> None:
    """In a table of its own."""
    assert re.search(r'id="axis-other">Other stacks</h3>.*?<span>latest</span>', text(), re.DOTALL)


def test_the_only_script_is_the_one_the_policy_names() -> None:
    """And the browser refuses to load anything."""
    script = asset("atlas.js")
    assert text().count("<script") == 1 and f"<script>{script}</script>" in text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'\"" in text()
    assert not {"img", "link", "iframe", "object"} & set(seen().tags)


def test_what_needs_the_script_is_hidden_without_it() -> None:
    """Filters that do nothing are not shown."""
    assert '<form id="filters" hidden>' in text()


def test_frames_lead_to_the_source_at_the_tag() -> None:
    """Of the versions of that stack."""
    assert "https://github.com/huggingface/peft/blob/v0.17.1/src/peft/utils/other.py#L142" in seen().links


def test_text_of_a_package_is_text() -> None:
    """In errors, files and code."""
    place = Frame(f"trl/{HOSTILE}.py", 1, HOSTILE, HOSTILE)
    bad = b.failed(on("0.24.0"), "AttributeError", HOSTILE, Stage.TRAINER, place)
    assert "<img" not in text({"cpu": kept(bad)})
    assert "&lt;img src=x" in text({"cpu": kept(bad)})


def test_cells_that_end_alike_are_one_line() -> None:
    """By state, known issues and reason; the most serious first."""
    square = survey(FIELD).square("sft-peft-model", "trl0.22-py311")
    assert [(like.state, like.issues, len(like.cells)) for like in page.likes(square)] == [
        (State.SILENT, ("trl#3926",), 1),
        (State.CRASHES, ("trl#3926",), 1),
    ]


def test_an_unlisted_failure_names_its_checks_with_their_titles() -> None:
    """A code never stands alone."""
    (cell,) = survey({"cpu": kept(b.frozen(on("0.24.0")))}).square("sft-peft-model", "trl0.24-py311").cells
    assert re.match(r"C104 [A-Z]\w+ ", page.reason_of(cell))


def test_a_section_of_the_documents_is_linked_from_the_folder_of_the_page() -> None:
    """An upstream report is linked as it is."""
    assert page.reference("docs/evidence.md#x") == "../../docs/evidence.md#x"
    assert page.reference("https://example.org") == "https://example.org"


def test_what_the_device_cannot_show_is_said_by_stack() -> None:
    """In a table and in the head of the grid; without records there is no such section."""
    traced = dataclasses.replace(FIELD["cpu"], uncovered={"trl0.22-py311": Uncovered(58, 28, 4)})
    shown = text({**FIELD, "cpu": traced})
    assert '<th scope="row">trl0.22-py311</th><td>28 of 58</td><td>4</td>' in shown
    assert "Not covered on this device: 28 of 58" in shown
    assert 'id="uncovered"' in shown
    assert 'id="uncovered"' not in text()
