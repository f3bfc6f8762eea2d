"""The options of a run as a file: one process reads what another wrote."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
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
    """Missing options have their defaults."""
    assert parse_options(()) == RunOptions()
