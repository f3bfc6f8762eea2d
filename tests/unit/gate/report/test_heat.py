"""Cells are counted by flow, by side, and by difference."""

from __future__ import annotations

from dataclasses import replace

import builders as b
from finetune_compat.contract.records import Stage
from finetune_compat.gate.decision import Aspect, Difference
from finetune_compat.gate.report.heat import Differing, Marks, differing, rows
from gate_builders import AFTER, BEFORE, cell, gate

VARIANTS = (b.NF4, b.NF4_NOGC, b.INT8)


def test_each_flow_has_its_cells_on_both_sides() -> None:
    """Healthy ones, those of each cause, those that the machine lost, and those that are not there."""
    before = [*(cell(BEFORE, variant=one) for one in VARIANTS), cell(BEFORE, "sft-peft-config")]
    frozen, lost, _ = (cell(AFTER, variant=one) for one in VARIANTS)
    after = [b.frozen(frozen), b.out_of_memory(lost), cell(AFTER, "sft-peft-config")]
    found = {row.flow.flow: row for row in rows(gate(before, after))}
    assert found["sft-peft-config"].before == found["sft-peft-config"].after == Marks(1, (), 0, 0)
    assert found["sft-peft-model"].before == Marks(3, (), 0, 0)
    assert found["sft-peft-model"].after == Marks(0, ((0, 1),), 1, 1)


def test_a_deviating_cell_is_marked_with_its_cause() -> None:
    """On the side on which it deviates: before, if it was fixed."""
    answer = gate([b.frozen(cell(BEFORE))], [cell(AFTER)])
    (row,) = rows(answer)
    assert (row.before, row.after) == (Marks(0, ((0, 1),), 0, 0), Marks(1, (), 0, 0))
    assert answer.causes[0].cells == ("sft-peft-model[qwen2-nf4-gc]@cpu",)


def test_a_difference_has_all_of_its_cells() -> None:
    """The most frequent comes first; equal values are one difference."""
    answer = gate(
        [cell(BEFORE, variant=one) for one in VARIANTS],
        [cell(AFTER, variant=one) for one in VARIANTS],
    )
    rare = Difference(Aspect.DTYPES, Stage.LOAD, "float32", "float16")
    often = Difference(Aspect.CHECKPOINTING, Stage.TRAINER, "off", "reentrant")
    one, two, three = answer.cells
    changed = replace(
        answer,
        cells=(
            replace(one, differences=(rare,)),
            replace(two, differences=(often,)),
            replace(three, differences=(often,)),
        ),
    )
    assert differing(changed) == (
        Differing(often, (two.name, three.name), ("sft-peft-model",)),
        Differing(rare, (one.name,), ("sft-peft-model",)),
    )
    assert differing(replace(answer, cells=())) == ()
