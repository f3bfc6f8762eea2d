"""The options of a run as a file: one process reads what another wrote."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from finetune_compat.contract.catalog import Tier
from finetune_compat.contract.options import HELP
from finetune_compat.run.options import OPTIONS_FILE, RunOptions, parse_options, write_options

EVERYTHING = (
    *("--device", "cpu", "--attention", "eager", "--steps", "7", "--limit", "9", "--memory-limit", "3GiB"),
    *("--tier", "deep", "--seeds", "200-399", "--gpus", "1", "--gpu-larger-than", "16", "--fresh", "--offline"),
    *("--base-python", sys.executable, "-k", "nf4 and not gc", "-x"),
)


@pytest.mark.parametrize("given", [(), EVERYTHING])
def test_a_session_reads_what_was_written_for_it(tmp_path: Path, given: tuple[str, ...]) -> None:
    """Every field has its type, and nothing is validated a second time."""
    options = parse_options(given)
    write_options(options, tmp_path / "options.json")
    assert parse_options((OPTIONS_FILE, str(tmp_path / "options.json"))) == options


def test_a_file_names_the_only_cells(tmp_path: Path) -> None:
    """The cells keep their order; the last line may have no line break."""
    (tmp_path / "cells.txt").write_text("s/b[x]@cpu\ns/a[x]@cpu")
    assert parse_options(("--cells", str(tmp_path / "cells.txt"))).cells == ("s/b[x]@cpu", "s/a[x]@cpu")


def test_help_shows_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    """The sentences are those of `compat run --help`."""
    with pytest.raises(SystemExit) as caught:
        parse_options(("--help",))
    assert caught.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert [name for name, sentence in HELP.items() if f"--{name}" not in said or sentence not in said] == []


def test_options_are_compared_by_value() -> None:
    """Missing options have their defaults. A session is the default tier; other commands choose their own cells."""
    assert parse_options(()) == RunOptions(tier=Tier.DEFAULT)


@pytest.mark.parametrize(
    "given",
    [("-k", "sft-full"), ("--model", "gpt2"), ("--seeds", "9"), ("--faults",), ("--branches", "-k", "nogc")],
)
def test_what_is_named_is_not_hidden_by_the_default_tier(given: tuple[str, ...]) -> None:
    """Cells that a user names run, also if they tell no two releases apart. So do planted faults and sweeps."""
    assert parse_options(given).tier is Tier.FULL
    assert parse_options(("--tier", "deep", *given)).tier is Tier.DEEP


def test_a_file_of_cells_is_run_whole(tmp_path: Path) -> None:
    """As a part of a plan is."""
    (tmp_path / "cells.txt").write_text("trl0.22-py311/sft-full[qwen2-full-gc]@cpu")
    assert parse_options(("--cells", str(tmp_path / "cells.txt"))).tier is Tier.FULL
