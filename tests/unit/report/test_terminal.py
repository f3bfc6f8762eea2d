"""The report in a terminal: readable at any width and in a pipe; truncated text is complete elsewhere."""

from __future__ import annotations

import io
import re
from pathlib import Path

import builders as b
import pytest
from builders import FULL, INT8, LISTED, NF4_NOGC, frozen, frozen_loud, healthy, ran, summary_of
from finetune_compat.contract.catalog import cells_on
from finetune_compat.contract.records import DeviceKind, Observation, Precision, Stage, Variant
from finetune_compat.machine.console import PIPED_WIDTH, open_console
from finetune_compat.report.terminal import print_run, print_stack
from report_builders import STACK, at, plain
from rich.console import Console

CHAIN = (
    "frozen by trl/trainer/sft_trainer.py:694 -> trl/models/utils.py:539 -> peft/utils/other.py:142: "
    "param.requires_grad = False"
)


def every_cell() -> list[Observation]:
    """All cells of a CPU, with those of trl#3926 frozen."""
    seen = []
    for flow, variant in cells_on(DeviceKind.CPU):
        cell = at(flow.name, variant)
        if flow.name == "sft-peft-model" and variant.precision.value in ("nf4", "int8"):
            cell = frozen(cell) if variant.gradient_checkpointing else frozen_loud(cell)
        seen.append(cell)
    return seen


def stack_text(*seen: Observation, width: int = 160) -> str:
    """Return the report of one stack, with trl#3926 listed."""
    console, out = plain(width)
    print_stack(summary_of([ran(*seen)], *seen, ledger=LISTED), seen[0].stack.name, console)
    return out.getvalue()


def row_of(text: str, variant: str) -> str:
    """Return the row of a variant in the table, with spaces collapsed."""
    [row] = [" ".join(line.split()) for line in text.splitlines() if line.startswith(f"  {variant} ")]
    return row


def test_a_frozen_cell_shows_its_stages_its_flat_loss_and_its_issue() -> None:
    """The stages are the user's preparation, the library's second one, and the remaining adapters."""
    text = stack_text(frozen(at()))
    assert row_of(text, "qwen2-nf4-gc") == (
        "qwen2-nf4-gc * 16,704 0 16,384 0 0 0 16,384 4.892134 -> 4.892134 xfail trl#3926 a"
    )
    assert "trainable at load prepare peft prep#2 trainer after reload eval loss verdict" in " ".join(text.split())


def test_a_healthy_cell_shows_its_falling_loss() -> None:
    """Four decimals are enough; a stage that was not reached is a dash."""
    text = stack_text(at(variant=FULL))
    assert row_of(text, "qwen2-full-gc") == "qwen2-full-gc 90,688 - 16,384 16,384 16,384 16,384 4.8921 -> 4.4012 pass"


def test_a_cell_that_raised_shows_the_error_in_place_of_a_loss() -> None:
    """There is no loss."""
    assert row_of(stack_text(frozen_loud(at(variant=NF4_NOGC))), "qwen2-nf4-nogc").endswith(
        "RuntimeError xfail trl#3926 a"
    )


def test_a_cause_of_many_cells_is_printed_once() -> None:
    """It has the line that froze, the link and the remedy."""
    text = stack_text(*every_cell())
    assert text.count(CHAIN) == 1
    assert text.count("https://github.com/huggingface/trl/issues/3926") == 1
    assert text.count(f"To do: {b.issue().remedy}") == 1
    assert "6 cells of sft-peft-model on trl0.22-py311\n" in text


def test_emulated_rows_are_marked_and_the_mark_is_explained() -> None:
    """These are nf4 cells on a CPU, without plain placement."""
    text = stack_text(at(), at(variant=b.NF4_PLAIN), at(variant=INT8))
    assert [line.split()[0] for line in text.splitlines() if " * " in line] == ["qwen2-nf4-gc"]
    assert "\n* 4-bit weights on this CPU present an accelerator to TRL" in text
    assert "*" not in stack_text(healthy(stack=STACK, device=DeviceKind.CUDA))


@pytest.mark.parametrize("width", [100, 120, 160, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    """The table has every cell, and is the widest possible."""
    assert [line for line in stack_text(*every_cell(), width=width).splitlines() if len(line) > width] == []


@pytest.mark.parametrize("width", [100, 160])
def test_every_row_of_a_table_is_one_line(width: int) -> None:
    """There are as many lines as cells, and each ends in a verdict."""
    lines = stack_text(*every_cell(), width=width).splitlines()
    rows = [line for line in lines if re.match(r"  (\S+-)?(nf4|int8|full|bf16)-", line)]
    assert len(rows) == len(cells_on(DeviceKind.CPU))
    assert all(re.search(r" (pass|xfail( trl#3926)? a)$", row) for row in rows)


def test_a_narrow_terminal_loses_only_what_is_below_the_table() -> None:
    """The letter refers to the issue's name below; a flat loss is one number and the word."""
    text = stack_text(frozen(at()), width=90)
    assert row_of(text, "qwen2-nf4-gc").endswith("4.892134 flat xfail a")
    assert "\na  xfail trl#3926, release bug: " in text


@pytest.mark.parametrize("width", [20, 60])
def test_a_tiny_terminal_gets_everything_and_wraps_it(width: int) -> None:
    """Nothing is truncated; the model stands above its rows."""
    text = stack_text(frozen(at()), width=width)
    assert "\nsft-peft-model  qwen2\n" in text
    assert row_of(text, "nf4-gc").endswith("4.892134 flat xfail a")


def test_model_names_that_are_too_long_stand_above_the_rows() -> None:
    """It stands once above each model's rows of a flow; a wide terminal shows it in every row."""
    text, vision = at(variant=NF4_NOGC), at(variant=Variant("qwen2.5-vl+vision", Precision.NF4, True))
    narrow, wide = (stack_text(frozen_loud(text), frozen(vision), width=width) for width in (92, 102))
    assert [line for line in narrow.splitlines() if line.startswith("sft-peft-model")] == [
        "sft-peft-model  qwen2",
        "sft-peft-model  qwen2.5-vl+vision",
    ]
    assert row_of(narrow, "nf4-gc") == "nf4-gc * 19,936 0 26,112 0 0 0 26,112 4.892134 flat xfail a"
    assert row_of(wide, "qwen2.5-vl+vision-nf4-gc").endswith("26,112 4.892134 flat xfail a")


def test_a_pipe_has_no_colour_and_a_fixed_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminal behind the pipe does not matter."""
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr("sys.stdout", io.StringIO())
    console = open_console()
    assert (console.width, console.color_system) == (PIPED_WIDTH, None)
    assert "\x1b" not in stack_text(*every_cell())


def test_a_terminal_has_colour() -> None:
    """The words are the same."""
    out = io.StringIO()
    seen = [frozen(at()), at(variant=FULL)]
    summary = summary_of([ran(*seen)], *seen, ledger=LISTED)
    print_stack(summary, STACK, Console(file=out, width=160, color_system="standard", force_terminal=True))
    assert "\x1b[31mxfail trl#3926 a" in out.getvalue()
    assert re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()) == stack_text(*seen)


def test_the_last_lines_have_counts_meaning_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory is relative to the current one."""
    monkeypatch.chdir(tmp_path)
    lines = stack_text(at(variant=FULL)).splitlines()
    counts = lines.index("1 cell on 1 stack: 1 pass, 0 xfail, 0 FAIL, 0 infrastructure.")
    assert lines[counts + 1].startswith("Deep tier: not run. ")
    assert lines[-2:] == [
        "Healthy: every cell passes, or deviates exactly as listed.",
        "reports/runs/example/ has report.html, summary.md, junit.xml, verdicts.jsonl and observations.jsonl",
    ]


def test_causes_end_with_what_fails() -> None:
    """Listed causes come before them."""
    text = stack_text(b.learns_nothing(at(variant=FULL)), frozen(at()))
    assert text.index("\na  xfail trl#3926, release bug: ") < text.index("\nb  FAIL, a deviation that is not listed")


# ------------------------------------------------------------------------------------------------------------- window


def test_a_report_of_several_stacks_leaves_out_plain_passes() -> None:
    """It has the deviations of each stack, letters of the causes of the whole run, and the window."""
    first, second = at(stack="trl0.21-py311"), b.learns_nothing(at(stack=STACK, variant=FULL))
    console, out = plain(160)
    print_run(summary_of([ran(first), ran(second)], first, second), console)
    text = out.getvalue()
    assert "  qwen2-nf4-gc" not in text
    assert "1 cell as stated\n" in text
    assert row_of(text, "qwen2-full-gc").endswith("FAIL a")


def test_a_hundred_columns_are_enough_for_every_verdict_and_every_error() -> None:
    """The longest words of the table are truncated; the cause below has them in full."""
    crash = b.failed(at("sft-full", FULL), "SomeVeryLongNameOfAnException", "x", Stage.TRAINER)
    text = stack_text(*every_cell()[:40], crash, b.out_of_memory(at("trainer-peft-model")), width=100)
    assert [line for line in text.splitlines() if len(line) > 100] == []
    assert "SomeVeryLongNam… FAIL c\n" in text
    assert re.search(r" OutOfMemoryError infra b\n", text)
    assert "F001 SomeVeryLongNameOfAnException at trainer" in text
