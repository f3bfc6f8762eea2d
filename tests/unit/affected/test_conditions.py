"""What an issue needs besides the versions, in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import builders as b
import pytest
from finetune_compat.affected.conditions import conditions, flows
from finetune_compat.affected.hits import Certainty, Hit
from finetune_compat.checks.harm import Harm
from finetune_compat.checks.ledger import Scripted, Signature
from finetune_compat.contract.records import DeviceKind, Precision

ANY = Signature(windows={}, flows=("sft-full",), check="C104")


def hit(*shows: Signature) -> Hit:
    """An issue that shows in these ways."""
    return Hit(b.issue(*shows), Certainty.HIT, Harm.LEARNS_NOTHING, shows, (), ())


@pytest.mark.parametrize(
    ("changes", "clauses"),
    [
        ({}, []),
        ({"precisions": (Precision.NF4,)}, ["4-bit weights"]),
        ({"precisions": (Precision.INT8, Precision.NF4, Precision.NF4_BF16)}, ["4-bit or 8-bit weights"]),
        ({"precisions": (Precision.FULL, Precision.BF16)}, ["unquantized weights"]),
        ({"precisions": (Precision.NF4, Precision.INT8, Precision.FULL)}, []),
        ({"gradient_checkpointing": True}, ["gradient checkpointing"]),
        ({"gradient_checkpointing": False}, ["no gradient checkpointing"]),
        ({"models": ("llama", "qwen2")}, ["seen on qwen2, llama"]),
        ({"device": DeviceKind.CUDA}, ["device cuda"]),
        ({"feature": "avx512_bf16"}, ["a CPU with AVX512-BF16"]),
        ({"feature": "without_triton"}, ["no Triton"]),
    ],
)
def test_each_condition_of_a_signature_is_a_clause(changes: dict[str, Any], clauses: list[str]) -> None:
    """After that of the ledger. What holds for every cell is none."""
    found = hit(replace(ANY, **changes))
    assert conditions(found) == (found.issue.needs, *clauses)


def test_a_condition_of_one_signature_only_is_none() -> None:
    """The issue shows without it too."""
    narrow = replace(
        ANY, precisions=(Precision.NF4,), gradient_checkpointing=True, models=("qwen2",), device=DeviceKind.CPU
    )
    assert conditions(hit(narrow, ANY))[1:] == ()
    other = replace(narrow, precisions=(Precision.INT8,), gradient_checkpointing=False, device=DeviceKind.CUDA)
    assert conditions(hit(narrow, other))[1:] == ("4-bit or 8-bit weights", "seen on qwen2")


def test_a_script_adds_no_condition() -> None:
    """What cells of the issue have in common is none of its conditions."""
    scripted = Scripted(windows={}, script="x", error="AssertionError", harm=Harm.CRASHES)
    found = replace(hit(replace(ANY, precisions=(Precision.NF4,))), shows=(scripted,))
    assert conditions(found) == (found.issue.needs,)
    both = replace(found, shows=(replace(ANY, precisions=(Precision.NF4,)), scripted))
    assert conditions(both) == (found.issue.needs,)


def test_flows_are_those_of_all_signatures_once() -> None:
    """In the order of the ledger."""
    found = hit(replace(ANY, flows=("b", "a")), replace(ANY, flows=("a", "c")))
    assert flows(found) == ("b", "a", "c")
