"""BLOCK is said as soon as one cell of both sides shows it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import builders as b
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.contract.records import Observation, to_json
from finetune_compat.gate.decide import Compared
from finetune_compat.gate.decision import CellChange, Rule, Side
from finetune_compat.gate.live import Watcher
from finetune_compat.gate.policy import load_policy
from finetune_compat.gate.reason import certain
from finetune_compat.results.run_files import Results, RowState

LEDGER = load_ledger()
ONE, OTHER = "trl0.19-py311", "trl0.22-py311"


def side(stack: str, trl: str) -> Side:
    """A side."""
    return Side(
        asked=f"trl=={trl}",
        stack=stack,
        rule=Rule.ROW,
        as_of=datetime.now(UTC).date(),
        versions=b.on_trl(trl),
        not_followed=(),
        lock_sha256="",
        state=RowState.RAN,
        reason="",
    )


def followed(run: Path, *seen: Observation) -> tuple[list[str], list[CellChange]]:
    """The cells that were counted and those that block, after these observations."""
    given = Compared(
        before=side(ONE, "0.19.1"),
        after=side(OTHER, "0.22.2"),
        results=Results(run, (), {}, ()),
        ledger=LEDGER,
        policy=load_policy(LEDGER),
        today=datetime.now(UTC).date(),
        command="compat gate",
        narrowed="",
        left_out=(),
    )
    counted: list[str] = []
    blocking: list[CellChange] = []
    with Watcher(run, given, lambda one: counted.append(one.cell), blocking.append):
        (run / "observations.jsonl").write_text("".join(f"{to_json(one)}\n" for one in seen))
    return counted, blocking


def cell(stack: str, trl: str, flow: str = "sft-peft-model") -> Observation:
    """A healthy cell."""
    return b.healthy(flow, b.NF4, stack=stack, versions=b.on_trl(trl))


def test_one_regressed_cell_is_enough(tmp_path: Path) -> None:
    """It is said once, with the cause."""
    ill = b.frozen(cell(OTHER, "0.22.2"))
    more = [b.frozen(cell(OTHER, "0.22.2", "trainer-peft-model")), cell(ONE, "0.19.1", "trainer-peft-model")]
    counted, blocking = followed(tmp_path, cell(ONE, "0.19.1"), ill, *more)
    assert len(counted) == 4
    assert [one.name for one in blocking] == ["sft-peft-model[qwen2-nf4-gc]@cpu"]
    text = certain(blocking[0])
    assert text.startswith("BLOCK is certain: sft-peft-model[qwen2-nf4-gc]@cpu regressed (trl#3926): C104 0 trainable")
    assert "peft/utils/other.py:142" in text


def test_one_side_says_nothing(tmp_path: Path) -> None:
    """The same cell may deviate on the side in use."""
    ill = b.frozen(cell(OTHER, "0.22.2"))
    assert followed(tmp_path, ill)[1] == []


def test_a_lost_cell_never_blocks(tmp_path: Path) -> None:
    """The machine failed."""
    assert followed(tmp_path, cell(ONE, "0.19.1"), b.out_of_memory(cell(OTHER, "0.22.2")))[1] == []
