"""The word of the baselines, the cells that run first, and what is never said from a baseline."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from finetune_compat.checks.comparison import Health, health
from finetune_compat.contract.errors import RecordsError
from finetune_compat.gate.inputs import read_side
from finetune_compat.gate.known import NONE, Known, order, read_known, scouts
from finetune_compat.stacks.matrix import read_matrix

KNOWN = read_known()
MATRIX = read_matrix()
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


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """The message says what makes it again."""
    (tmp_path / "known.json").write_text("{")
    with pytest.raises(RecordsError, match="Make it again: compat known"):
        read_known(tmp_path / "known.json")
