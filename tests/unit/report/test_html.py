"""The page of a run: whatever a library says is text, and it stays bounded. How it looks is tests/pages' business."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import builders as b
import pytest
from builders import FULL, NF4, frozen, healthy, ran, results_of
from finetune_compat.contract.errors import CompatError, ExitCode, UnknownName
from finetune_compat.contract.records import Frame, Labels, Observation, Stage
from finetune_compat.report import charts, html, report_command, wording
from finetune_compat.results.summary import summarize

HOSTILE = '<script>alert(1)</script><img src="https://example.org/x" onerror=alert(1)>'


def rendered(*seen: Observation) -> str:
    """The page of a run of one stack, with the flagship listed."""
    results = results_of([ran(*seen)], *seen, ledger=b.LISTED)
    return html.render(summarize(results, b.LISTED), results.observations)


def at(trl: str = "0.22.2") -> Observation:
    """A healthy cell."""
    return healthy(stack="trl0.22-py311", versions=b.on_trl(trl))


def test_the_page_opens_with_the_verdict() -> None:
    """Before anything that takes reading."""
    page = rendered(at("0.24.0"))
    assert re.search(r"<h1>(.*?)</h1>", page)[1] == "Healthy: every cell passes, or deviates exactly as listed."  # type: ignore[index]


def test_a_freeze_shows_its_chain_its_charts_and_how_to_see_it_again() -> None:
    """All of a cell, in one place."""
    page = rendered(frozen(at()), healthy("sft-peft-config", NF4, stack="trl0.22-py311", versions=b.on_trl("0.22.2")))
    assert "<code>peft/utils/other.py:142</code>" in page
    assert "param.requires_grad = False" in page
    assert page.count('<svg class="chart"') == 2
    assert "sft-peft-config (correct)" in page
    assert "nox -s &#34;compat-3.11(trl=&#39;0.22&#39;)&#34; -- -k &#39;sft-peft-model[qwen2-nf4-gc]&#39;" in page


def test_a_cell_says_which_share_of_its_labels_is_masked() -> None:
    """Of those that the model was given in training: 80 rows of 24 words and an end."""
    some, none = rendered(frozen(at())), rendered(b.masked_labels(at()))
    assert (
        "<p>labels of 80 rows: 2,000 of 2,000 are tokens, 0.0% are -100 (so is padding); no row with -100 alone, "
        "80 of 80 ends of rows kept.</p>"
    ) in some
    assert "0 of 2,000 are tokens, 100.0% are -100 (so is padding); 80 rows with -100 alone, 0 of 80 ends" in none


def test_labels_of_before_positions_were_counted_have_no_share() -> None:
    """What is not known is not told."""
    assert wording.labels(Labels(8, 200, 0, "aa", "bb")) == "labels of 8 rows: 200 are tokens; no row with -100 alone"
    assert wording.labels(Labels(8, 150, 1, "aa", "bb", 200, 8, 2)) == (
        "labels of 8 rows: 150 of 200 are tokens, 25.0% are -100 (so is padding); 1 row with -100 alone, "
        "6 of 8 ends of rows kept"
    )


def test_a_cell_without_a_twin_stands_beside_what_it_was() -> None:
    """On the release before."""
    old = healthy(stack="trl0.19-py311", versions=b.on_trl("0.19.1"))
    results = results_of([ran(old), ran(frozen(at()))], old, frozen(at()), ledger=b.LISTED)
    page = html.render(summarize(results, b.LISTED), results.observations)
    assert "sft-peft-model on trl0.19-py311</li>" in page
    assert page.count('class="curve c1"') == 2  # the curve, and its sign in the legend


def test_what_a_library_says_is_text_and_never_markup() -> None:
    """In messages, paths and code."""
    place = Frame(f"trl/{HOSTILE}.py", 1, HOSTILE, HOSTILE)
    page = rendered(b.failed(at("0.24.0"), f"{HOSTILE}Error", HOSTILE, Stage.TRAINER, place))
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page


def test_nothing_is_fetched_and_nothing_runs() -> None:
    """The browser is told so by the page itself."""
    page = rendered(frozen(at()))
    assert "default-src 'none'; style-src 'unsafe-inline'" in page
    assert not re.search(r"<(script|link|img|iframe)\b|@import|url\(|\son[a-z]+=", page)


def test_ten_thousand_causes_stay_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell fails for a reason of its own: so many causes are told, and the rest is counted."""
    letters = "abcdefghij"
    seen = [
        b.failed(
            dataclasses.replace(at("0.24.0"), cell=f"trl0.22-py311/sft-peft-model[m{number}-nf4-gc]@cpu"),
            "RuntimeError",
            "".join(letters[int(digit)] for digit in str(number)) + " long message" * 100,
            Stage.TRAINER,
        )
        for number in range(html.MOST_CAUSES + 40)
    ]
    page = rendered(*seen)
    assert page.count('<article class="cause"') == html.MOST_CAUSES
    assert "40 causes left out: verdicts.jsonl has every cell." in page


@pytest.mark.parametrize("losses", [(), (float("nan"),) * 3, (4.0,), (4.0, float("inf"), 3.0), (4.0, 4.0)])
def test_a_plot_takes_any_losses(losses: tuple[float, ...]) -> None:
    """None at all, none that is finite, one, and two that are equal."""
    drawn = charts.loss_chart("losses", [charts.Curve("a <b>", losses, None, None)])
    finite = [loss for loss in losses if loss < 100]
    assert (drawn is None) is not bool(finite)
    if drawn is not None:
        shapes = re.sub(r"<desc>.*?</desc>", "", drawn)  # there NaN is said, here it cannot be drawn
        assert "nan" not in shapes and "inf" not in shapes


def test_bars_are_as_long_as_their_numbers() -> None:
    """To scale against the largest of all series."""
    drawn = charts.stage_chart("t", ["load"], [charts.Bars("a", [50], [""]), charts.Bars("b", [100], [""])])
    one, other = (float(found) for found in re.findall(r'<rect [^>]*width="([\d.]+)"', drawn))
    assert other == pytest.approx(2 * one, abs=0.1)


def test_a_count_that_was_lost_is_marked_and_one_that_never_was_is_not() -> None:
    """A nought at a step that freezes everything is no news."""
    drawn = charts.stage_chart(
        "t", ["prepare", "trainer"], [charts.Bars("a", [0, 9], ["", ""]), charts.Bars("b", [0, 0], ["", ""])]
    )
    assert drawn.count('class="zero small"') == 1


def test_cells_asked_for_are_on_a_page_of_their_own(tmp_path: Path) -> None:
    """Healthy ones too, and the run's own page stays as it is."""
    seen = healthy("sft-peft-model", FULL, stack="trl0.22-py311", versions=b.on_trl("0.22.2"))
    run = b.stored(tmp_path / "run", [ran(seen)], seen)
    page = tmp_path / "cells.html"
    assert report_command(str(run), tmp_path, page=page, cells="*sft-peft-model[qwen2-full*") is ExitCode.HEALTHY
    assert "Raw observation" in page.read_text(encoding="utf-8")
    assert "Raw observation" not in (run / "report.html").read_text(encoding="utf-8")


def test_a_pattern_that_finds_nothing_is_an_error(tmp_path: Path) -> None:
    """No empty page."""
    seen = at("0.24.0")
    run = b.stored(tmp_path / "run", [ran(seen)], seen)
    with pytest.raises(UnknownName) as caught:
        report_command(str(run), tmp_path, page=tmp_path / "cells.html", cells="trl9*")
    assert str(caught.value) == (
        "--cells: no cell of this run matches 'trl9*'\n"
        "A cell's id is stack/flow[variant]@device. * matches any text; no other character is special.\n"
        "Write it like this: --cells 'trl0.22-py311/sft-peft-model[*]@cpu'"
    )
    assert not (tmp_path / "cells.html").exists()
    assert isinstance(caught.value, CompatError)
