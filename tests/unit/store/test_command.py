"""The commands `compat store`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import builders as b
import pytest
from builders import NF4
from finetune_compat.contract.errors import ExitCode
from finetune_compat.store import stored_files
from store_builders import NEW, OLD, compat, seen, store, stored_object


def test_ls_names_cells_latest_first(capsys: pytest.CaptureFixture[str]) -> None:
    """The columns are time, address, outcome and seconds; cells are selected by a part of their names."""
    other = b.healthy("sft-full", replace(NF4, precision=b.Precision.FULL))
    one, two = stored_object(seen(duration_s=1.25), OLD), stored_object(replace(other, duration_s=0.5), NEW)
    for each in (one, two):
        stored_files.write(store().root, each)
    assert compat("ls") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"2099-01-01 00:00  {two.recipe.address[:12]}  pass        0.50 s  {other.cell}",
        f"2020-01-01 00:00  {one.recipe.address[:12]}  pass        1.25 s  {seen().cell}",
        f"2 cells in {store().root}",
    ]
    assert compat("ls", "sft-full", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [
        {
            "cell": other.cell,
            "address": two.recipe.address,
            "outcome": "pass",
            "duration_s": 0.5,
            "recorded_at": NEW,
        }
    ]


@pytest.mark.parametrize("by", [lambda each: each.recipe.cell, lambda each: each.recipe.address[:8]])
def test_show_prints_what_an_observation_depends_on(
    capsys: pytest.CaptureFixture[str], by: Callable[[stored_files.Stored], str]
) -> None:
    """It is selected by the cell's name or a prefix of the address; --json prints the whole file."""
    stored_files.write(store().root, stored_object())
    assert compat("show", by(stored_object())) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"address      {stored_object().recipe.address}"
    assert f"lock_sha256  {stored_object().recipe.lock_sha256}" in lines
    assert compat("show", by(stored_object()), "--json") == 0
    assert json.loads(capsys.readouterr().out)["observation"]["cell"] == seen().cell


def test_show_of_a_missing_observation_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    """An ambiguous prefix is bad input too."""
    assert compat("show", "nonesuch") == ExitCode.BAD_INPUT
    assert capsys.readouterr().err == (
        f"{store().root}: no cached results match 'nonesuch'\n"
        "`compat store ls` lists them: name a cell's whole id, or more characters of the address.\n"
    )
    for seed in range(2):
        stored_files.write(store().root, stored_object(seed=seed))
    assert compat("show", "") == ExitCode.BAD_INPUT
    assert "2 cached results match ''" in capsys.readouterr().err


def test_sizes_are_written_as_for_any_option(capsys: pytest.CaptureFixture[str]) -> None:
    """They have the same form as in `--memory-limit`."""
    assert compat("prune", "--max-size", "1.5GB") == 0
    assert capsys.readouterr().out == f"0 of 0 observations removed, 0.0 MB, from {store().root}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            (),
            (
                "compat store prune: no option says what to remove\n"
                "Give --older-than, --max-size or --unreachable. Add --dry-run to see what would be removed.\n"
            ),
        ),
        (("--older-than", "soon"), "--older-than: 'soon' is not a valid age\nWrite days or hours: 90d, 12h.\n"),
        (("--max-size", "1I"), "--max-size: '1I' is not a valid size\nWrite bytes with a unit: 500MB, 1.5GB, 2GiB.\n"),
    ],
)
def test_prune_without_a_valid_criterion_is_bad_input(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    """Nothing is removed."""
    assert compat("prune", *arguments) == ExitCode.BAD_INPUT
    assert capsys.readouterr().err == said


def test_without_a_shared_store_nothing_is_pushed(capsys: pytest.CaptureFixture[str]) -> None:
    """This is bad input."""
    assert compat("push") == ExitCode.BAD_INPUT
    assert capsys.readouterr().err == (
        "COMPAT_STORE_REMOTE: there is no shared store\nSet it to its URL, such as s3://bucket/compat.\n"
    )
