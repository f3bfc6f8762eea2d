"""The page of a run: messages of libraries are escaped, and its size is limited. tests/pages checks its appearance."""

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
    """Return the page of a run of one stack, with trl#3926 listed."""
    results = results_of([ran(*seen)], *seen, ledger=b.LISTED)
    return html.render(summarize(results, b.LISTED), results.observations)


def at(trl: str = "0.22.2") -> Observation:
    """Make a healthy cell."""
    return healthy(stack="trl0.22-py311", versions=b.on_trl(trl))


def test_the_page_opens_with_the_verdict() -> None:
    """The verdict is the heading."""
    page = rendered(at("0.24.0"))
    assert re.search(r"<h1>(.*?)</h1>", page)[1] == "Healthy: every cell passes, or deviates exactly as listed."  # type: ignore[index]


def test_a_freeze_shows_its_chain_its_charts_and_how_to_see_it_again() -> None:
    """All facts of a cell are in one place."""
    page = rendered(frozen(at()), healthy("sft-peft-config", NF4, stack="trl0.22-py311", versions=b.on_trl("0.22.2")))
    assert "<code>peft/utils/other.py:142</code>" in page
    assert "param.requires_grad = False" in page
    assert page.count('<svg class="chart"') == 2
    assert "sft-peft-config (correct)" in page
    assert "nox -s &#34;compat-3.11(trl=&#39;0.22&#39;)&#34; -- -k &#39;sft-peft-model[qwen2-nf4-gc]&#39;" in page


def test_a_cell_shows_the_share_of_masked_labels() -> None:
    """The labels are those of the training batches: 80 rows of 24 words and an end token."""
    some, none = rendered(frozen(at())), rendered(b.masked_labels(at()))
    assert (
        "<p>labels of 80 rows: 2,000 of 2,000 are tokens, 0.0% are -100 (so is padding); no row with -100 alone, "
        "80 of 80 ends of rows kept.</p>"
    ) in some
    assert "0 of 2,000 are tokens, 100.0% are -100 (so is padding); 80 rows with -100 alone, 0 of 80 ends" in none


def test_labels_without_positions_have_no_share() -> None:
    """Older observations lack the positions."""
    assert wording.labels(Labels(8, 200, 0, "aa", "bb")) == "labels of 8 rows: 200 are tokens; no row with -100 alone"
    assert wording.labels(Labels(8, 150, 1, "aa", "bb", 200, 8, 2)) == (
        "labels of 8 rows: 150 of 200 are tokens, 25.0% are -100 (so is padding); 1 row with -100 alone, "
        "6 of 8 ends of rows kept"
    )


def test_a_cell_without_a_twin_stands_beside_what_it_was() -> None:
    """It is compared with the release before."""
    old = healthy(stack="trl0.19-py311", versions=b.on_trl("0.19.1"))
    results = results_of([ran(old), ran(frozen(at()))], old, frozen(at()), ledger=b.LISTED)
    page = html.render(summarize(results, b.LISTED), results.observations)
    assert "sft-peft-model on trl0.19-py311</li>" in page
    assert page.count('class="curve c1"') == 2  # the curve, and its sample in the legend


def test_a_librarys_message_is_text_and_never_markup() -> None:
    """This covers messages, paths and code."""
    place = Frame(f"trl/{HOSTILE}.py", 1, HOSTILE, HOSTILE)
    page = rendered(b.failed(at("0.24.0"), f"{HOSTILE}Error", HOSTILE, Stage.TRAINER, place))
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page


def test_the_page_fetches_nothing_and_runs_nothing() -> None:
    """The page forbids it to the browser itself."""
    page = rendered(frozen(at()))
    assert "default-src 'none'; style-src 'unsafe-inline'" in page
    assert not re.search(r"<(script|link|img|iframe)\b|@import|url\(|\son[a-z]+=", page)


def test_ten_thousand_causes_stay_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell fails for another reason: a limited number of causes is shown, and the others are counted."""
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
    """This covers no losses, none that is finite, one, and two equal ones."""
    drawn = charts.loss_chart("losses", [charts.Curve("a <b>", losses, None, None)])
    finite = [loss for loss in losses if loss < 100]
    assert (drawn is None) is not bool(finite)
    if drawn is not None:
        shapes = re.sub(r"<desc>.*?</desc>", "", drawn)  # the description names NaN, which the plot cannot draw
        assert "nan" not in shapes and "inf" not in shapes


def test_bars_are_as_long_as_their_numbers() -> None:
    """They share one scale, that of the largest value of all series."""
    drawn = charts.stage_chart("t", ["load"], [charts.Bars("a", [50], [""]), charts.Bars("b", [100], [""])])
    one, other = (float(found) for found in re.findall(r'<rect [^>]*width="([\d.]+)"', drawn))
    assert other == pytest.approx(2 * one, abs=0.1)


def test_a_count_that_was_lost_is_marked_and_one_that_never_was_is_not() -> None:
    """A zero at a stage that freezes everything is expected."""
    drawn = charts.stage_chart(
        "t", ["prepare", "trainer"], [charts.Bars("a", [0, 9], ["", ""]), charts.Bars("b", [0, 0], ["", ""])]
    )
    assert drawn.count('class="zero small"') == 1


def test_requested_cells_are_on_a_separate_page(tmp_path: Path) -> None:
    """Healthy cells are included, and the page of the run is unchanged."""
    seen = healthy("sft-peft-model", FULL, stack="trl0.22-py311", versions=b.on_trl("0.22.2"))
    run = b.stored(tmp_path / "run", [ran(seen)], seen)
    page = tmp_path / "cells.html"
    assert report_command(str(run), tmp_path, page=page, cells="*sft-peft-model[qwen2-full*") is ExitCode.HEALTHY
    assert "Raw observation" in page.read_text(encoding="utf-8")
    assert "Raw observation" not in (run / "report.html").read_text(encoding="utf-8")


def test_a_pattern_that_finds_nothing_is_an_error(tmp_path: Path) -> None:
    """No empty page is written."""
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
