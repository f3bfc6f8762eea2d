"""The default tier tells apart what all cells tell apart, in less time."""

from __future__ import annotations

import dataclasses

from finetune_compat.evidence.known import known_file
from finetune_compat.evidence.tier import flow_of, tier_of, verdicts
from finetune_compat.gate.known import NONE, HeldCell, Known, read_known
from finetune_compat.run.default_tier import FILE, default_tier, to_json

KNOWN = read_known()


def kept(known: Known) -> list[HeldCell]:
    """The cells of the default tier."""
    chosen = tier_of(known).cells
    return [cell for cell in known.cells if cell.name.partition("@")[0] in chosen]


def test_every_verdict_of_every_cell_is_one_of_a_kept_cell() -> None:
    """On all stacks together: two releases that some cell tells apart, a kept cell tells apart."""
    assert {verdicts(cell, KNOWN) for cell in kept(KNOWN)} == {verdicts(cell, KNOWN) for cell in KNOWN.cells}


def test_every_flow_has_a_cell() -> None:
    """Also one whose cells say what those of another flow say."""
    assert {flow_of(cell) for cell in kept(KNOWN)} == {flow_of(cell) for cell in KNOWN.cells}


def test_a_kept_cell_is_the_shortest_that_says_the_same() -> None:
    """A cell that became cheap takes the place of the one that was kept."""
    dropped = next(
        cell
        for cell in KNOWN.cells
        if cell not in kept(KNOWN) and any(verdicts(cell, KNOWN) == verdicts(other, KNOWN) for other in kept(KNOWN))
    )
    cheap = dataclasses.replace(dropped, seconds=0.0)
    changed = dataclasses.replace(KNOWN, cells=tuple(cheap if cell == dropped else cell for cell in KNOWN.cells))
    assert cheap in kept(changed)


def test_a_cell_that_says_something_new_is_kept() -> None:
    """However long it takes."""
    dropped = next(cell for cell in KNOWN.cells if cell not in kept(KNOWN))
    alone = dataclasses.replace(dropped, seconds=1e6, results=(*dropped.results[:-1], NONE))
    assert verdicts(alone, KNOWN) not in {verdicts(cell, KNOWN) for cell in KNOWN.cells}
    changed = dataclasses.replace(KNOWN, cells=tuple(alone if cell == dropped else cell for cell in KNOWN.cells))
    assert alone in kept(changed)


def test_the_committed_file_follows_from_the_committed_results() -> None:
    """`compat known` writes both."""
    file = known_file().with_name(FILE)
    assert file.read_text(encoding="utf-8") == to_json(tier_of(KNOWN))
    assert default_tier(file) == tier_of(KNOWN)


def test_it_takes_less_than_half_of_the_time_of_all_cells() -> None:
    """Otherwise it would not be worth the risk."""
    assert sum(cell.seconds for cell in kept(KNOWN)) < sum(cell.seconds for cell in KNOWN.cells) / 2
