"""The word of the baselines, the cells that run first, and what is never said from a baseline."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from finetune_compat.checks.comparison import Health, health
from finetune_compat.contract.errors import RecordsError
from finetune_compat.gate.command import GateRequest, gate_command, run
from finetune_compat.gate.decision import Decision, GateExit
from finetune_compat.gate.inputs import read_side
from finetune_compat.gate.known import NONE, Known, order, read_known, scouts
from finetune_compat.stacks.matrix import read_matrix

KNOWN, MATRIX = read_known(), read_matrix()
PINNED = [stack.name for stack in MATRIX.stacks if stack.package]
"""`latest` is resolved anew when it is a side."""
AT = {stack.name: place for place, stack in enumerate(KNOWN.stacks)}
CELLS = {cell.name: cell for cell in KNOWN.cells}


def healths(known: Known, name: str) -> list[Health]:
    """The health of a cell on every stack."""
    places = CELLS[name].results
    return [health(known.results[place].verdict) if place != NONE else Health.ABSENT for place in places]


def regresses(before: Health, after: Health) -> bool:
    """By definition: it gave its user what they are entitled to, and no longer does."""
    return before in (Health.TRAINS, Health.REFUSED) and after is Health.DEVIATES


def test_scouts_meet_every_regression_between_two_stacks() -> None:
    """For each pair of which any cell regresses, one of the scouts does."""
    every = {name: healths(KNOWN, name) for name in CELLS}
    chosen = scouts(KNOWN)
    for one, other in itertools.permutations(range(len(KNOWN.stacks)), 2):
        if any(regresses(found[one], found[other]) for found in every.values()):
            assert any(regresses(every[name][one], every[name][other]) for name in chosen)


def test_scouts_are_few_and_short() -> None:
    """Otherwise any order would do: they take a small part of the time of all cells."""
    chosen = scouts(KNOWN)
    assert len(chosen) == len({*chosen}) < len(CELLS) / 4
    assert sum(CELLS[name].seconds for name in chosen) < sum(cell.seconds for cell in KNOWN.cells) / 4


def test_a_cell_that_is_expected_to_regress_runs_first() -> None:
    """The shortest of them; then the scouts, and every cell once."""
    before, after = AT["trl0.19-py311"], AT["trl0.22-py311"]
    ranks = order(KNOWN, before, after)
    first, second = sorted(CELLS, key=lambda name: ranks[name])[:2]
    ill = [name for name in CELLS if regresses(healths(KNOWN, name)[before], healths(KNOWN, name)[after])]
    assert CELLS[first].seconds == min(CELLS[name].seconds for name in ill)
    assert second in scouts(KNOWN)
    assert sorted(ranks.values()) == list(range(len(CELLS)))


def test_without_a_baseline_there_is_no_order() -> None:
    """Of a script, for example."""
    assert order(None, None, None) == {}


def test_a_file_with_the_versions_of_a_stack_is_that_stack(tmp_path: Path) -> None:
    """The baselines know of it, whatever else it pins."""
    versions = KNOWN.stacks[AT["trl0.22-py311"]].versions
    names = ("trl", "transformers", "peft", "bitsandbytes", "accelerate")
    file = tmp_path / "requirements.txt"
    file.write_text("".join(f"{name}=={versions[name]}\n" for name in names) + "einops==0.8.0\n")
    side = read_side([str(file)], "--to", MATRIX)
    assert KNOWN.place(side, "", "") == AT["trl0.22-py311"]
    file.write_text(file.read_text().replace(f"peft=={versions['peft']}", "peft==0.15.0"))
    assert KNOWN.place(read_side([str(file)], "--to", MATRIX), "", "") is None


def cached(before: str, after: str) -> GateRequest:
    """A call of `compat gate --cached`."""
    return GateRequest((before,), (after,), cached=True)


class TestCached:
    @pytest.fixture(autouse=True)
    def _elsewhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COMPAT_RUN_ID", "gate")
        monkeypatch.setattr("finetune_compat.run.stack_run.chosen_gpus", lambda *_: ())

    def test_the_flagship_blocks_with_its_line_and_a_measured_release(self) -> None:
        """trl#3926 came with 0.20.0 and left with 0.23.1 (huggingface/trl#3926)."""
        gate = run(cached("trl==0.19.1", "trl==0.22.2"))
        assert (gate.decision, gate.causes[0].group and gate.causes[0].group.issues) == (Decision.BLOCK, ("trl#3926",))
        target = gate.causes[0].target
        assert target is not None and (target.version, target.foretold) == ("0.23.1", True)
        assert gate.causes[0].group is not None
        assert gate.causes[0].group.freezes[0].what[-1].file == "peft/utils/other.py"
        assert gate.foretold_by.startswith("the baseline of 20")

    @pytest.mark.parametrize(("before", "after"), [*itertools.pairwise(PINNED)])
    def test_no_step_of_the_matrix_is_allowed(self, before: str, after: str) -> None:
        """A measurement on another machine is no evidence for this one."""
        assert run(cached(before, after)).decision is not Decision.ALLOW

    def test_versions_that_no_baseline_holds(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Could not tell, and what to do."""
        assert gate_command(cached("trl==0.19.1", "trl==0.22.1")) is GateExit.COULD_NOT_TELL
        assert capsys.readouterr().err == (
            "trl==0.19.1 or trl==0.22.1: no committed baseline holds these versions\n"
            "--cached answers from measurements that were made before, and starts nothing.\n"
            "Leave --cached out, or name two stacks with the Python of the baselines: `compat stacks` lists them.\n"
        )

    def test_scripts_are_not_held(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A baseline holds cells of the catalog."""
        (tmp_path / "train.py").write_text("")
        request = GateRequest(("trl0.19",), ("trl0.22",), cached=True, flow=str(tmp_path / "train.py"))
        assert gate_command(request) is GateExit.COULD_NOT_TELL
        assert capsys.readouterr().err.startswith("--cached: the committed baselines hold only cells on a CPU\n")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """The message says what makes it again."""
    (tmp_path / "known.json").write_text("{")
    with pytest.raises(RecordsError, match="Make it again: compat known"):
        read_known(tmp_path / "known.json")
