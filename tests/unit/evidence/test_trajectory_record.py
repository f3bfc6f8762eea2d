"""When ways to run one training agree, and when a stack learns slower."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from finetune_compat.contract.errors import RecordsError
from finetune_compat.contract.trajectory import STEPS, Task, Way
from finetune_compat.evidence.trajectory_record import (
    WINDOW,
    Measured,
    Run,
    Speed,
    agreement,
    of,
    ratio,
    read_record,
    record_text,
    steps_to_target,
)

FALLING = tuple(5.0 - 0.02 * step for step in range(STEPS))


def run(
    losses: Sequence[float] = FALLING, way: Way = Way.PLAIN, weights: Sequence[str] = ("a",), error: str = ""
) -> Run:
    """A training."""
    return Run(Task.SFT, way, tuple(losses), tuple(weights), error)


class TestAgreement:
    def test_losses_that_differ_by_rounding_agree(self) -> None:
        """Both signs, one millionth: a mean residual of nothing."""
        rounded = [loss * (1 + (1e-6 if step % 2 else -1e-6)) for step, loss in enumerate(FALLING)]
        found = agreement(run(rounded), run())
        assert (found.word, found.why) == ("agrees", "")
        assert found.largest == pytest.approx(1e-6) and found.residual == pytest.approx(0, abs=1e-9)

    def test_one_loss_that_differs_is_named_by_its_step(self) -> None:
        """A fault that begins in the middle, for example after resuming."""
        later = [loss * (1.01 if step >= 25 else 1) for step, loss in enumerate(FALLING)]
        assert (agreement(run(later), run()).word, agreement(run(later), run()).why) == ("differs", "from step 26 on")

    def test_a_small_difference_with_one_sign_differs(self) -> None:
        """Each loss is within the limit of one, their mean is not."""
        found = agreement(run([loss * (1 + 5e-5) for loss in FALLING]), run())
        assert (found.word, found.why) == ("differs", "by little, always with the same sign")

    def test_processes_with_different_weights_differ(self) -> None:
        """Also where no losses are compared."""
        assert agreement(run(weights=("a", "b")), None).word == "differs"
        assert agreement(run(weights=("a", "a")), None).word == "agrees"

    @pytest.mark.parametrize(
        ("losses", "why"),
        [
            (FALLING[:-1], f"{STEPS - 1} finite losses of {STEPS} steps"),
            ((*FALLING[:-1], float("nan")), "finite losses"),
        ],
    )
    def test_a_run_without_a_finite_loss_for_each_step_fails(self, losses: Sequence[float], why: str) -> None:
        """It is not compared as far as it goes."""
        found = agreement(run(losses), run())
        assert found.word == "fails" and why in found.why

    def test_an_error_is_the_answer(self) -> None:
        """On either side."""
        assert agreement(run((), error="ValueError: no"), run()).why == "ValueError: no"
        found = agreement(run(), run((), error="ImportError: x"))
        assert (found.word, found.why) == ("no plain run", "ImportError: x")


class TestSpeed:
    def test_the_target_is_reached_by_the_mean_of_the_last_losses(self) -> None:
        """5.0 falls by 0.02 a step, so the mean of five is 4.5 where its middle is the 26th loss: at the 28th."""
        assert steps_to_target(FALLING) == pytest.approx(28)

    def test_between_two_steps_the_mean_is_a_straight_line(self) -> None:
        """The means of five are 10, 10 and 8: the target of 9 lies in the middle of the last step."""
        assert steps_to_target([10.0] * 6 + [0.0]) == pytest.approx(6.5)
        assert steps_to_target([10.0, 9.0, 8.0, 7.0, 6.0]) == WINDOW

    def test_a_target_that_is_not_reached_is_none(self) -> None:
        """Neither are losses too few for one mean."""
        assert steps_to_target([5.0] * STEPS) is None
        assert steps_to_target([5.0, 1.0]) is None

    @pytest.mark.parametrize(("factor", "word"), [(1.15, "slower"), (1.0, "same"), (0.87, "faster")])
    def test_both_directions_are_told(self, factor: float, word: str) -> None:
        """Twenty seeds, with the noise of whole steps."""
        usual = [20 + seed % 5 for seed in range(20)]
        found = ratio([round(steps * factor) for steps in usual], usual)
        assert found is not None and found.word == word
        assert found.mean == pytest.approx(factor, abs=0.02)

    def test_noise_of_both_signs_is_the_same_speed(self) -> None:
        """The interval holds 1."""
        usual = [20] * 20
        found = ratio([20 + (1 if seed % 2 else -1) for seed in range(20)], usual)
        assert found is not None and found.word == "same"

    def test_seeds_that_reach_no_target_are_left_out(self) -> None:
        """With fewer than two, nothing can be told."""
        assert ratio([10, None, 12], [10, 11, None]) is None


class TestFile:
    def test_what_is_written_is_read(self, tmp_path: Path) -> None:
        """Losses keep their digits."""
        stack = Measured("2026-11-30", "0" * 40, {"trl": "1.16.0"}, (run(),), Speed((1, None), (2, 3), (1, 1)))
        (tmp_path / "t.json").write_text(record_text({"trl1.16": stack}))
        found = read_record(tmp_path / "t.json")
        assert found == {"trl1.16": stack}
        assert of(found["trl1.16"], Task.SFT, Way.PLAIN) == run()
        assert of(found["trl1.16"], Task.GRPO, Way.TWO_PROCESSES) is None

    def test_no_file_is_no_stack(self, tmp_path: Path) -> None:
        """The first run makes it."""
        assert read_record(tmp_path / "t.json") == {}

    def test_another_file_is_refused(self, tmp_path: Path) -> None:
        """With what to do."""
        (tmp_path / "t.json").write_text('{"trl1.16": {}}')
        with pytest.raises(RecordsError, match="nox -s trajectories"):
            read_record(tmp_path / "t.json")
