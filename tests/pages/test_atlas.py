"""The atlas in a real browser: it fits a phone, its text is legible, nothing is fetched, and its script only adds."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import pytest
from browser import Page
from finetune_compat.atlas.command import atlas_files
from finetune_compat.checks.ledger_file import load_ledger
from test_pages import DESK, FAINT, GOLDEN, OPEN_ALL, TOO_WIDE

PHONE = (360, 780)
SHOWN = "[...document.querySelectorAll('.issue')].filter(found => found.getBoundingClientRect().height > 0).length"


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of two golden scenarios, as if they were committed baselines."""
    folder = tmp_path_factory.mktemp("atlas")
    for name in ("mixed-window", "healthy"):
        shutil.copytree(GOLDEN / name / "run", folder / "baseline" / name)
        days = {"first_cell": "2026-11-20T12:00:00+00:00", "last_cell": "2026-11-21T13:00:00+00:00"}
        origin = {**days, "harness_version": "0.1.0", "kept_at_commit": "5f" * 20}
        (folder / "baseline" / name / "provenance.json").write_text(json.dumps(origin), encoding="utf-8")
    ledger = load_ledger(GOLDEN / "mixed-window" / "ledger.toml")
    file = folder / "index.html"
    file.write_text(atlas_files(folder / "baseline", folder / "atlas", ledger)["index.html"], encoding="utf-8")
    return file


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_it_fits_its_screen_and_can_be_read(page: Page, atlas: Path, size: tuple[int, int], dark: bool) -> None:
    """Only the grid is wider than a phone, and it scrolls. WCAG AA: a contrast of 4.5 to 1."""
    page.show(atlas, *size, dark=dark)
    page.evaluate(OPEN_ALL)
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert page.evaluate(TOO_WIDE) == []
    assert page.evaluate(FAINT) == []
    assert page.requests == []


def test_it_is_complete_without_its_script(page: Page, atlas: Path) -> None:
    """Filters are hidden then, and every issue is shown."""
    page.show(atlas, *DESK, scripts=False)
    assert page.evaluate("document.getElementById('filters').hidden") is True
    assert page.evaluate(SHOWN) == page.evaluate("document.querySelectorAll('.issue').length") > 0


def test_its_script_filters(page: Page, atlas: Path) -> None:
    """Issues, flows and cells, by words and by state."""
    page.show(atlas, *DESK)
    assert page.evaluate("document.getElementById('filters').hidden") is False
    page.evaluate("search.value = 'no such issue'; filters.dispatchEvent(new Event('input'))")
    assert page.evaluate(SHOWN) == 0
    page.evaluate("search.value = ''; state.value = 'refuses'; filters.dispatchEvent(new Event('input'))")
    rows = (
        "[...document.querySelectorAll('.grid-table tbody tr:not(.left-out) .muted')].map(found => found.textContent)"
    )
    assert page.evaluate(SHOWN) > 0
    assert page.evaluate(rows) == ["sft-peft-model-and-config"]


def test_a_link_shows_what_a_filter_left_out(page: Page, atlas: Path) -> None:
    """A link that leads nowhere would look as if nothing were there."""
    page.show(atlas, *DESK)
    page.evaluate("search.value = 'no such issue'; filters.dispatchEvent(new Event('input'))")
    page.evaluate("dispatchEvent((location.hash = '#flow-sft-full', new Event('hashchange')))")
    assert page.evaluate("document.getElementById('flow-sft-full').getBoundingClientRect().height") > 0


def test_it_is_accessible(page: Page, atlas: Path) -> None:
    """Headings skip no rank, table headers have their scope, and drawings have names."""
    page.show(atlas, *DESK)
    page.evaluate(OPEN_ALL)
    ranks = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(found => Number(found.tagName[1]))")
    assert ranks[0] == 1 and all(after <= before + 1 for before, after in itertools.pairwise(ranks))
    assert page.evaluate("document.querySelectorAll('th:not([scope])').length") == 0
    assert page.evaluate("[...document.querySelectorAll('svg')].filter(s => !s.querySelector('title')).length") == 0
