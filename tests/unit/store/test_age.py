"""What changed since a baseline was measured."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from finetune_compat.checks.digests import check_digests
from finetune_compat.contract.catalog import flow_named
from finetune_compat.results.age import Age, Part
from finetune_compat.results.digests import Digests, write_digests
from finetune_compat.stacks.locks import Lock, locked
from finetune_compat.stacks.matrix import read_matrix
from finetune_compat.store.age import age_of
from finetune_compat.store.sources import sources

STACK = "trl0.22-py311"
FLOWS = ("sft-full", "dpo-peft-config")


def today() -> Digests:
    """The digests of a baseline that was kept just now."""
    matrix = read_matrix()
    lock = locked(matrix.plan(matrix.stack("trl0.22"), "3.11"))
    assert isinstance(lock, Lock)
    return Digests(
        sources={name: sources().digest(flow_named(name), real=False) for name in FLOWS},
        given={name: {"qwen2": sources().given(flow_named(name), "qwen2", real=False)} for name in FLOWS},
        locks={STACK: lock.sha256},
        checks=check_digests(),
    )


def age(run: Path, digests: Digests | None) -> Age | None:
    (run / "provenance.json").touch()
    if digests is not None:
        write_digests(run, digests)
    return age_of(run)


SAME = Age(flows=(), every_flow=False, locks=(), checks=(), unknown=())


def test_nothing_changed_since_just_now(tmp_path: Path) -> None:
    """And all of it is known."""
    assert age(tmp_path, today()) == SAME


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"sources": {**today().sources, "sft-full": "0"}}, {"flows": ("sft-full",)}),
        ({"sources": dict.fromkeys(FLOWS, "0")}, {"flows": FLOWS, "every_flow": True}),
        ({"sources": {**today().sources, "gone": "0"}}, {"flows": ("gone",)}),
        ({"given": {"sft-full": {"qwen2": "0"}}}, {"flows": ("sft-full",)}),
        ({"given": {"sft-full": {"gone": "0"}}}, {"flows": ("sft-full",)}),
        ({"locks": {STACK: "0"}}, {"locks": (STACK,)}),
        ({"locks": {**today().locks, "gone0.1-py311": "0"}}, {"locks": ("gone0.1-py311",)}),
        ({"checks": {**check_digests(), "C104": "0"}}, {"checks": ("C104",)}),
        ({"checks": {code: it for code, it in check_digests().items() if code != "M901"}}, {"checks": ("M901",)}),
        ({"sources": {}, "given": {}}, {"unknown": (Part.SOURCES,)}),
        ({"locks": {}}, {"unknown": (Part.LOCKS,)}),
        ({"checks": {}}, {"unknown": (Part.CHECKS,)}),
    ],
)
def test_what_changed_is_named(tmp_path: Path, change: dict[str, object], differs: dict[str, object]) -> None:
    """Flows by sources and catalog values, stacks by lock, checks by code. What is not recorded is not known."""
    digests = dataclasses.replace(today(), **change)  # type: ignore[arg-type]
    found = age(tmp_path, digests)
    expected = dataclasses.replace(SAME, **differs)  # type: ignore[arg-type]
    assert found is not None
    assert dataclasses.replace(found, flows=tuple(sorted(found.flows))) == dataclasses.replace(
        expected, flows=tuple(sorted(expected.flows))
    )


def test_of_a_baseline_without_digests_nothing_is_known(tmp_path: Path) -> None:
    """Not that nothing changed."""
    found = age(tmp_path, None)
    assert found is not None
    assert (found.unknown, found.flows, found.locks, found.checks) == (tuple(Part), (), (), ())


def test_a_run_has_no_age(tmp_path: Path) -> None:
    """Only what is committed grows old."""
    assert age_of(tmp_path) is None
