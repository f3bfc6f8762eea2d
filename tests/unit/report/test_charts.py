"""Charts as inline SVG."""

from __future__ import annotations

import re

import pytest
from finetune_compat.report import charts


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
