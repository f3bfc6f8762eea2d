"""Records of device-dependent branches."""

from __future__ import annotations

from branch_builders import guard
from finetune_compat.contract.branches import TracedCell


def test_a_cell_has_a_flow_and_a_variant() -> None:
    """The flow is what stands before the bracket."""
    assert TracedCell("sft-peft-model[qwen2-nf4-gc]", emulates=True, error="").flow == "sft-peft-model"


def test_a_guard_has_two_sides() -> None:
    """A cell may take both, and a side that no cell took is empty."""
    both = guard("torch.cuda.is_available()", (0, 2), (2,))
    assert (both.took(True), both.took(False)) == ((0, 2), (2,))
    assert guard("is_sharded_qlora", (), (0,)).took(True) == ()
