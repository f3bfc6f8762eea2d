"""The page of a run: messages of libraries are escaped, and its size is limited. tests/pages checks its appearance."""

from __future__ import annotations

import dataclasses
import re

import builders as b
import pytest
from builders import NF4, frozen, healthy, ran, results_of
from finetune_compat.contract.records import Frame, Observation, Stage
from finetune_compat.report import html
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
