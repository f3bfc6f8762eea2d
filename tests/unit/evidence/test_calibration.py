"""The sweep over seeds: which results are errors, what is committed, and the reports."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import builders
import deep_builders as d
import pytest
from deep_builders import LLAMA, QWEN2, long, seeds
from finetune_compat.checks.case import LUCK
from finetune_compat.checks.learning import FALSE_ALARMS, MISSES
from finetune_compat.checks.objectives import MINIMUM_FALL
from finetune_compat.checks.rates import Rate
from finetune_compat.contract.catalog import SWEPT_CELLS, Handicap
from finetune_compat.contract.cell_id import CellId
from finetune_compat.contract.errors import RecordsError
from finetune_compat.contract.records import DeviceKind, Observation, Stage, to_json
from finetune_compat.evidence import calibration
from finetune_compat.evidence.calibration import HEALTHY, Sweep, judged


def with_fall(runs: list[Observation], handicap: Handicap | None, after: float) -> list[Observation]:
    """Give the first run of this kind another final eval loss."""
    index = next(i for i, seen in enumerate(runs) if seen.handicap == handicap)
    return [*runs[:index], d.with_losses(runs[index], 5.0, after), *runs[index + 1 :]]


def test_a_test_that_is_never_wrong_is_on_target() -> None:
    """3 seeds: 3 healthy, 6 dead and 9 nearly dead runs."""
    sweep = judged(seeds(3))
    assert (sweep.false_alarms, sweep.misses, sweep.rounded) == (Rate(0, 3), Rate(0, 6), Rate(0, 9))
    assert sweep.on_target


def test_a_healthy_flow_that_fails_a_check_is_a_false_alarm() -> None:
    """Its loss fell by 1 %."""
    sweep = judged(with_fall(seeds(3), None, 4.95))
    assert (sweep.false_alarms, sweep.misses, sweep.rounded) == (Rate(1, 3), Rate(0, 6), Rate(0, 9))
    assert not sweep.on_target


@pytest.mark.parametrize("handicap", [Handicap.FROZEN, Handicap.WANDERING])
def test_a_dead_flow_that_passes_is_a_miss(handicap: Handicap) -> None:
    """Its loss fell by 20 % by chance; with such a null the healthy run of its seed is not proven either."""
    sweep = judged(with_fall(seeds(3), handicap, 4.0))
    assert sweep.misses == Rate(1, 6)
    assert sweep.false_alarms == Rate(1, 3)


@pytest.mark.parametrize("handicap", [Handicap.HUNDREDTH])
def test_a_nearly_dead_flow_that_passes_was_rounded(handicap: Handicap) -> None:
    """Its loss fell by 20 %, and no tensor stood still."""
    sweep = judged(with_fall(seeds(3), handicap, 4.0))
    assert (sweep.rounded, sweep.on_target) == (Rate(1, 9), False)


def test_layers_that_stand_still_are_caught_by_other_checks_than_the_learning_test() -> None:
    """Half of the layers give half of the fall, which is enough for eval loss alone."""
    kind = judged(seeds(2)).kinds[Handicap.ONE_LAYER]
    assert (kind.failing, kind.learning) == (("W701", "W701"), ("", ""))
    assert kind.roots == (("W701", 2),)


def written(runs: list[Observation], path: Path) -> Path:
    path.write_text("".join(f"{to_json(seen)}\n" for seen in runs), encoding="utf-8")
    return path


FILE = "trl0.24-py311-sft-peft-config-qwen2-full-nogc-cpu.json"


def test_a_sweep_is_kept_and_read_back_as_it_was(tmp_path: Path) -> None:
    """A newer sweep of a cell replaces an older one that has no more seeds."""
    for sweep in (long(), long(100, 399)):
        assert calibration.save(sweep, tmp_path) == f"Stored in {tmp_path / FILE}."
        assert calibration.read_sweeps(tmp_path) == (sweep,)
    assert json.loads((tmp_path / FILE).read_text())["cell"] == QWEN2


def test_sweeps_of_two_cells_of_a_stack_lie_side_by_side(tmp_path: Path) -> None:
    """Each has its own file, in the order of seeds."""
    one, other = long(200, 399), long(0, 199, LLAMA)
    for sweep in (one, other):
        assert calibration.save(sweep, tmp_path).startswith("Stored")
    assert calibration.read_sweeps(tmp_path) == (other, one)


@pytest.mark.parametrize(
    ("sweep", "why"),
    [
        (judged(seeds(2)), "2 seeds are too few to state a rate; at least 200 are needed."),
        (long(0, 199), f"an earlier sweep of {QWEN2} has 300 seeds. To replace it, remove it first."),
        (
            long(250, 449, LLAMA),
            (
                f"{QWEN2} has seeds 0 to 299, and rates are summed over seeds that sweeps do not share. "
                "Use other seeds: --seeds 300-499."
            ),
        ),
    ],
)
def test_a_sweep_that_would_weaken_the_rates_is_not_kept(sweep: Sweep, why: str, tmp_path: Path) -> None:
    """It has few seeds, fewer steps, or runs that are already counted."""
    calibration.save(long(0, 299), tmp_path)
    before = (tmp_path / FILE).read_bytes()
    assert calibration.save(sweep, tmp_path) == f"Not stored in {tmp_path}: {why}"
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(FILE, before)]


def test_a_sweep_is_read_and_judged(tmp_path: Path) -> None:
    """The file is as its cells wrote it."""
    assert calibration.read(written(seeds(2), tmp_path / "x.jsonl"), range(2)) == judged(seeds(2))


def test_only_the_requested_seeds_of_a_file_are_judged(tmp_path: Path) -> None:
    """The file may have more seeds from earlier sweeps, in any order."""
    path = written([*seeds(4)[12:], *seeds(4)[:12]], tmp_path / "x.jsonl")
    assert calibration.read(path, range(1, 3)).seeds == (1, 2)
    assert calibration.read(path, range(2)) == judged(seeds(2))


def test_a_sweep_that_did_not_train_is_refused(tmp_path: Path) -> None:
    """The message has the error: on TRL 1.15.0 without Triton every evaluation fails."""
    lost = [builders.failed(seen, "AttributeError", "no apply", Stage.TRAINING) for seen in seeds(1)]
    with pytest.raises(RecordsError, match="6 of 6 runs of the sweep did not train") as caught:
        calibration.read(written(lost, tmp_path / "x.jsonl"), range(1))
    assert "AttributeError at training: no apply" in str(caught.value)


def test_a_file_that_is_no_sweep_is_refused(tmp_path: Path) -> None:
    """The message has the path and the remedy."""
    (tmp_path / "x.json").write_text("{}", encoding="utf-8")
    with pytest.raises(RecordsError, match="not a sweep over seeds") as caught:
        calibration.read_sweeps(tmp_path)
    assert str(tmp_path / "x.json") in str(caught.value)


# ------------------------------------------------------------------------------------------------- what is committed


@pytest.fixture(scope="module")
def kept() -> tuple[calibration.Sweep, ...]:
    return calibration.read_sweeps()


def test_the_rates_that_reports_state_are_those_of_the_committed_sweeps(kept: tuple[calibration.Sweep, ...]) -> None:
    """The rates cover all sweeps; no two share a seed, so their runs are independent."""
    alarms, misses = [sweep.false_alarms for sweep in kept], [sweep.misses for sweep in kept]
    assert Rate(sum(rate.wrong for rate in alarms), sum(rate.trials for rate in alarms)) == FALSE_ALARMS
    assert Rate(sum(rate.wrong for rate in misses), sum(rate.trials for rate in misses)) == MISSES
    spans = [sweep.seeds for sweep in kept]
    assert all(last < first for (_, last), (first, _) in itertools.pairwise(spans))


def test_the_thresholds_have_their_documented_margins(kept: tuple[calibration.Sweep, ...]) -> None:
    """Healthy flows lose more than twice the threshold; random steps lose less than two thirds of the null's limit."""
    for sweep in kept:
        assert min(sweep.kinds[HEALTHY].falls) > 2 * MINIMUM_FALL
        assert max(map(abs, sweep.kinds[Handicap.WANDERING].falls)) < 2 / 3 * LUCK


def test_runs_of_every_seed_are_committed(kept: tuple[calibration.Sweep, ...]) -> None:
    """There are as many runs of each of the six kinds as seeds, enough to state a rate."""
    for sweep in kept:
        number = sweep.seeds[1] - sweep.seeds[0] + 1
        assert number >= calibration.FEWEST_SEEDS
        assert {len(kind.before) for kind in sweep.kinds.values()} == {number}
        assert set(sweep.kinds) == {HEALTHY, *Handicap}
        assert dataclasses.asdict(sweep)["steps"] == 10


def test_every_cheap_cell_was_swept(kept: tuple[calibration.Sweep, ...]) -> None:
    """The rate of one model is no general rate."""
    cells = {
        str(CellId(sweep.stack, flow, str(variant), DeviceKind.CPU)) for sweep in kept for flow, variant in SWEPT_CELLS
    }
    assert {sweep.cell for sweep in kept} == cells
