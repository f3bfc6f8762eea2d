"""What the page of trajectories says."""

from __future__ import annotations

from finetune_compat.contract.trajectory import STEPS, Task, Way
from finetune_compat.evidence.trajectory_page import page
from finetune_compat.evidence.trajectory_record import Measured, Run, Speed

LOSSES = tuple(5.0 - 0.02 * step for step in range(STEPS))


def stack(*runs: Run, usual: tuple[float | None, ...] = (20, 30)) -> Measured:
    """A stack whose handicapped runs take 20 % more and fewer steps."""
    slower, faster = (tuple(s and round(s * factor) for s in usual) for factor in (1.2, 0.8))
    plain = Run(Task.SFT, Way.PLAIN, LOSSES, ("a",), "")
    return Measured("2026-11-30", "abcdef" * 7, {"trl": "1.16.0"}, (plain, *runs), Speed(usual, slower, faster))


def of(way: Way, factor: float = 1.0, error: str = "") -> Run:
    """A run whose losses are a multiple of the plain ones."""
    return Run(Task.SFT, way, () if error else tuple(loss * factor for loss in LOSSES), ("a",), error)


def line(text: str, start: str) -> str:
    """The line of a table."""
    return next(found for found in text.splitlines() if found.startswith(f"| {start}"))


def test_each_way_has_a_word_for_each_stack() -> None:
    """And the largest difference, where there is one to compare."""
    text = page({"trl1.0": stack(of(Way.RESUME)), "trl1.16": stack(of(Way.RESUME, 1.01))})
    assert "agrees (0e+00) | differs (1e-02)" in line(text, "SFT, resume")
    assert "not in this release | not in this release" in line(text, "GRPO, two processes")


def test_what_deviates_is_listed_with_its_cause() -> None:
    """Foreign text cannot make markup."""
    text = page({"trl1.16": stack(of(Way.ACCUMULATION, 1.01), of(Way.RESUME, error="ValueError: <b>"))})
    assert "from step 1 on" in line(text, "SFT, accumulation | `trl1.16`")
    assert r"ValueError: \<b>" in line(text, "SFT, resume | `trl1.16`")


def test_nothing_that_deviates_is_said() -> None:
    """An empty table would look like an error."""
    assert "\n\nNothing.\n\n" in page({"trl1.16": stack(of(Way.RESUME))})


def test_speed_is_compared_with_the_stack_above() -> None:
    """The first has none above it."""
    text = page({"trl1.0": stack(), "trl1.16": stack(usual=(30, 45))})
    first, second = (line(text, f"`{name}` | 2 of 2") for name in ("trl1.0", "trl1.16"))
    assert first.split("|")[4].strip() == ""
    assert second.split("|")[4].strip() == "slower: 1.50 (1.50 to 1.50)"
    assert "slower: 1.20 (1.20 to 1.20)" in second and "faster: 0.80 (0.80 to 0.80)" in second


def test_seeds_without_the_target_are_counted() -> None:
    """With none there is no ratio."""
    assert "| 0 of 2 |" in line(page({"trl1.16": stack(usual=(None, None))}), "`trl1.16` | 0")
    assert "cannot be told" in page({"trl1.16": stack(usual=(None, None))})
