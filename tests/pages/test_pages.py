"""Every page in a real browser: nothing is fetched, no script runs, nothing is wider than a phone, and all text is
legible.
"""

from __future__ import annotations

import itertools
import re
import shutil
from pathlib import Path

import gates
import pytest
from browser import Page
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.contract.catalog import CATALOG
from finetune_compat.gate.decision import Decision
from finetune_compat.gate.report import publish as publish_gate
from finetune_compat.gate.report.wording import DIFFERING_HEADS
from finetune_compat.report import publish as publish_run

GOLDEN = Path(__file__).parent.parent / "golden"
RUNS = sorted(path.parent.name for path in GOLDEN.glob("*/ledger.toml"))
PHONE, DESK = (360, 800), (1280, 900)

OPEN_ALL = "document.querySelectorAll('details').forEach(found => found.open = true)"
TOO_WIDE = """[...document.querySelectorAll('body *')].filter(found => !found.closest('.scroll, pre.raw')
    && found.getBoundingClientRect().right > innerWidth + 1).map(found => found.outerHTML.slice(0, 120))"""
EFFECTS = "[...document.querySelectorAll('.flows tbody td:nth-child(2)')].map(found => found.textContent)"
CUT_OFF = """[...document.querySelectorAll('.flows :is(th, td)')].filter(found => found.getBoundingClientRect().right
    > found.closest('.scroll').getBoundingClientRect().right || found.scrollWidth > found.clientWidth)
    .map(found => found.outerHTML.slice(0, 120))"""
SCROLLS = """[...document.querySelectorAll('.stacked')].map(found => found.closest('.scroll'))
    .filter(found => found.scrollWidth > found.clientWidth).map(found => found.outerHTML.slice(0, 120))"""
LAID_OUT = """[...document.querySelectorAll('.stacked td')].map(found =>
    [found.dataset.head, getComputedStyle(found).display])"""
SPLIT = r"""[...document.querySelectorAll('.flows :is(th, td)')].flatMap(cell => {
  const text = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT), split = [];
  for (let node; node = text.nextNode();)
    for (const word of node.data.matchAll(/\w+/g)) {
      const range = document.createRange();
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      if (new Set([...range.getClientRects()].map(found => found.top)).size > 1) split.push(word[0]);
    }
  return split;
})"""
FAINT = r"""(() => {
  const light = text => {
    const [r, g, b] = text.match(/[\d.]+/g).map(Number).map(v => text.startsWith('color(') ? v : v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = found => {
    for (; found; found = found.parentElement) {
      const colour = getComputedStyle(found).backgroundColor;
      if (colour !== 'rgba(0, 0, 0, 0)') return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const faint = [];
  for (const found of document.querySelectorAll('body *')) {
    const text = [...found.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (!text || found.closest('style, title, desc')) continue;
    const style = getComputedStyle(found);
    const pair = [light(found.closest('svg') ? style.fill : style.color), light(behind(found))].sort();
    const ratio = (pair[1] + 0.05) / (pair[0] + 0.05);
    if (ratio < 4.5) faint.push(`${ratio.toFixed(2)} ${found.outerHTML.slice(0, 100)}`);
  }
  return faint;
})()"""


@pytest.fixture(
    scope="session", params=[*(f"run-{name}" for name in RUNS), *(f"gate-{name}" for name in gates.SCENARIOS)]
)
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of every golden scenario."""
    kind, _, name = str(request.param).partition("-")
    folder = GOLDEN / name if kind == "run" else gates.FOLDER / name
    run = tmp_path_factory.mktemp("runs") / name
    shutil.copytree(folder / "run", run)
    if kind == "run":
        publish_run(run, load_ledger(folder / "ledger.toml"))
        return run / "report.html"
    publish_gate(gates.gate_of(name, run), run)
    return run / "gate.html"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_a_page_fits_its_screen(
    page: Page, file: Path, size: tuple[int, int], dark: bool, pytestconfig: pytest.Config
) -> None:
    """With everything unfolded only tables are wider than the screen, and they scroll."""
    page.show(file, *size, dark=dark)
    page.evaluate(OPEN_ALL)
    shots = pytestconfig.getoption("--shots")
    if shots:
        shots.mkdir(parents=True, exist_ok=True)
        page.picture(shots / f"{file.parent.name}-{file.stem}-{size[0]}-{'dark' if dark else 'light'}.png", whole=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert page.evaluate(TOO_WIDE) == []


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_what_changed_in_a_flow_is_visible(page: Page, file: Path, size: tuple[int, int]) -> None:
    """Every column is visible without scrolling, next to the longest name of a flow, and no word is divided."""
    page.show(file, *size)
    longest = max((flow.name for flow in CATALOG), key=len)
    page.evaluate(f"document.querySelectorAll('.flows th[scope=row]').forEach(h => h.textContent = {longest!r})")
    effects = page.evaluate(EFFECTS)
    changed = file.name == "gate.html" and 'class="flows"' in file.read_text(encoding="utf-8")
    assert bool(effects) == changed
    assert {*effects} <= {*Decision}
    assert page.evaluate(CUT_OFF) == []
    assert page.evaluate(SPLIT) == []


def test_what_differs_needs_no_sideways_scrolling_on_a_phone(page: Page, file: Path) -> None:
    """Each of its cells is a line with the head of its column; on a desk it is a table."""
    page.show(file, *PHONE)
    page.evaluate(OPEN_ALL)
    assert page.evaluate(SCROLLS) == []
    assert {*map(tuple, page.evaluate(LAID_OUT))} <= {(head, "block") for head in DIFFERING_HEADS[1:]}
    page.show(file, *DESK)
    assert {display for _, display in page.evaluate(LAID_OUT)} <= {"table-cell"}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_all_text_can_be_read(page: Page, file: Path, dark: bool) -> None:
    """WCAG AA requires a contrast of 4.5 to 1 between every text and its background."""
    page.show(file, *DESK, dark=dark)
    page.evaluate(OPEN_ALL)
    assert page.evaluate(FAINT) == []


def test_nothing_is_fetched(page: Page, file: Path) -> None:
    """The page is one file."""
    page.show(file, *DESK)
    assert page.requests == []


def test_a_page_is_the_same_without_scripts(page: Page, file: Path) -> None:
    """It has no script, and its own policy forbids them."""
    page.show(file, *DESK, scripts=False)
    without = page.evaluate("document.documentElement.outerHTML")
    page.show(file, *DESK)
    assert page.evaluate("document.documentElement.outerHTML") == without
    assert "<script" not in without


def test_a_page_is_accessible_to_screen_readers(page: Page, file: Path) -> None:
    """Headings are in order with one of the first rank; table headers have their scope; drawings have names; links
    resolve.
    """
    page.show(file, *DESK)
    page.evaluate(OPEN_ALL)
    ranks = [
        int(rank) for rank in page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => h.tagName[1])")
    ]
    assert ranks[0] == 1 and ranks.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(ranks))
    assert page.evaluate("[...document.querySelectorAll('th:not([scope])')].length") == 0
    named = (
        "[...document.querySelectorAll('svg')].filter(s => !s.querySelector('title') && s.ariaHidden !== 'true').length"
    )
    assert page.evaluate(named) == 0
    broken = (
        "[...document.querySelectorAll('a[href^=\"#\"]')].filter(a => !document.getElementById(a.hash.slice(1))).length"
    )
    assert page.evaluate(broken) == 0


def test_a_verdict_is_written_in_words(page: Page, file: Path) -> None:
    """Colour is not the only sign: the first line of the page is the conclusion."""
    page.show(file, *PHONE)
    head = page.evaluate("document.querySelector('h1').textContent")
    assert re.match(r"Healthy|Unhealthy|Could not tell|ALLOW|HOLD|BLOCK|COULD NOT TELL", head)
