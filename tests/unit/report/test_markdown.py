"""`summary.md`: foreign text is escaped, and the file always fits where it is shown."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path

import builders as b
import pytest
from builders import FULL, INT8, LISTED, NF4, NF4_NOGC, frozen, frozen_loud, healthy, ran, summary_of
from finetune_compat.contract.catalog import cells_on
from finetune_compat.contract.records import DeviceKind, Frame, Observation, Stage, Variant
from finetune_compat.report import markdown, summarize, wording
from finetune_compat.report.markdown import plain
from finetune_compat.results.run_files import StackRow, judged
from report_builders import at


def rendered(*seen: Observation) -> str:
    """Return the file for a run of one stack, with trl#3926 listed."""
    return markdown.render(summary_of([ran(*seen)], *seen, ledger=LISTED))


def section(text: str, heading: str) -> str:
    """Return the text under a heading."""
    return text.partition(f"{heading}\n")[2].partition("\n#")[0]


def test_the_verdict_comes_first() -> None:
    """It is the first line."""
    assert rendered(at(variant=FULL)).splitlines()[2] == (
        "**Healthy: every cell passes, or deviates exactly as listed.** "
        "1 cell on 1 stack: 1 pass, 0 xfail, 0 FAIL, 0 infrastructure."
    )


def test_a_freeze_shows_counts_loss_issue_and_the_line_that_did_it() -> None:
    """These four facts were invisible to the users of trl#3926."""
    text = rendered(frozen(at()), at(variant=FULL))
    assert (
        r"| `sft-peft-model[qwen2-nf4-gc]` \* | 16,704 | 0 | 16,384 | 0 | 0 | 0 | 16,384 | 4.892134 -> 4.892134 "
        "| xfail trl#3926 a |" in text
    )
    assert (
        "frozen by trl/trainer/sft_trainer.py:694 -> trl/models/utils.py:539 -> peft/utils/other.py:142: "
        "param.requires_grad = False\n" in section(text, "### a. xfail trl#3926, release bug: " + b.issue().title)
    )
    assert "<https://github.com/huggingface/trl/issues/3926>" in text
    assert f"To do: {b.issue().remedy}".replace("_", r"\_") in text


def test_a_baseline_has_its_day_and_its_sources(tmp_path: Path) -> None:
    """It also names today's checks that lack data in it."""
    seen = at(variant=FULL)
    assert seen.training is not None
    older = dataclasses.replace(seen, training=dataclasses.replace(seen.training, grad_norm_logged=None))
    run = b.stored(tmp_path, [ran(older)], older)
    origin = {
        "first_cell": "2026-11-20T16:38:10+00:00",
        "last_cell": "2026-11-20T17:12:17+00:00",
        "harness_version": "0.1.0",
        "kept_at_commit": "5f" * 20,
    }
    (run / "provenance.json").write_text(json.dumps({**origin, "cells": 1}), encoding="utf-8")
    assert markdown.render(summarize(judged(run, LISTED), LISTED)).splitlines()[4] == (
        "Measured from 2026-11-20 16:38 to 2026-11-20 17:12 UTC with harness 0.1.0 and kept at commit 5f5f5f5f5f5f; "
        "the verdicts are those of the checks that wrote this page. Not judged, since the harness of that day did not "
        "record what they look at: G404 The gradient norm is a number (1 cell); G407 The logged gradient norm is the "
        "norm of the gradient (1 cell)."
    )
    assert "Measured from" not in rendered(at(variant=FULL))
    assert "Not judged" not in rendered(at(variant=FULL))


def test_a_baseline_ends_before_its_cells(tmp_path: Path) -> None:
    """Totals, window and causes remain, with the command that writes the cells."""
    first, second = frozen(at()), healthy(stack="trl0.24-py311")
    run = b.stored(tmp_path, [ran(first), ran(second)], first, second)
    whole = markdown.render(summarize(judged(run, LISTED), LISTED))
    origin = dict.fromkeys(("first_cell", "last_cell"), "2026-11-20T16:38:10+00:00")
    origin |= {"harness_version": "0.1.0", "kept_at_commit": "5f" * 20}
    (run / "provenance.json").write_text(json.dumps(origin), encoding="utf-8")
    text = markdown.render(summarize(judged(run, LISTED), LISTED))
    assert "## trl0.22-py311" in whole and "## trl0.22-py311" not in text
    assert "qwen2-nf4-gc" not in text
    assert "| trl0.22-py311 | 0.22.2 |" in text and "### a. xfail trl#3926" in text
    assert text.endswith("All baselines together: reports/atlas/.\n")
    assert "compat report reports/baseline/NAME" in text


def test_plain_passes_are_folded_away() -> None:
    """Everything else is visible; passes open at a click."""
    text = rendered(frozen(at()), at(variant=FULL))
    news, _, folded = text.partition("<details><summary>1 cell as stated</summary>")
    assert "sft-peft-model[qwen2-nf4-gc]" in news
    assert "sft-peft-model[qwen2-full-gc]" not in news
    assert "sft-peft-model[qwen2-full-gc]" in folded


def test_only_a_run_of_several_stacks_has_a_window() -> None:
    """The window has one line per stack and one column per flow."""
    first, second = frozen(at()), healthy(stack="trl0.24-py311")
    assert "| stack |" not in rendered(first)
    text = markdown.render(summary_of([ran(first), ran(second)], first, second, ledger=LISTED))
    assert "| stack | TRL | Transf. | PEFT | bnb | sft-peft-model |" in text
    assert "| trl0.22-py311 | 0.22.2 | 4.56.1 | 0.17.1 | 0.47.0 | a1 |" in text
    assert "| trl0.24-py311 | 0.24.0 | 4.56.1 | 0.17.1 | 0.47.0 | . |" in text


def test_a_stack_that_could_not_be_installed_says_why() -> None:
    """The reason is in its section and among the causes."""
    text = markdown.render(summary_of([b.uninstallable("trl0.4-py311", "no solution:\n  trl 0.4.7 needs tyro")]))
    assert section(text, "## trl0.4-py311").strip() == "uninstallable: no solution: trl 0.4.7 needs tyro"
    assert "0 cells on 1 stack: 0 pass, 0 xfail, 0 FAIL, 0 infrastructure. 1 stack uninstallable." in text


HOSTILE = "<img src=x> | `code` *bold* __init__ [link](x)\n# heading ``` fence"


def test_a_librarys_message_is_text_and_never_markup() -> None:
    """They are in code fences, in which other fences are escaped; in tables every sign is escaped."""
    place = Frame("trl/a.py", 1, "f", HOSTILE)
    seen = b.failed(at(), f"{HOSTILE}Error", HOSTILE, Stage.TRAINER, place)
    text = rendered(seen)
    open_text = re.sub(r"```text\n.*?\n```\n", "", text, flags=re.DOTALL)
    assert not re.search(r"(?<!\\)(<img|\*bold|__init|\[link)", open_text)
    assert text.count("```") == 2


def test_every_row_of_a_table_has_the_columns_of_its_head() -> None:
    """This holds for a message with a bar."""
    seen = [b.failed(at(), "Bar|Error", "a | b", Stage.TRAINER), frozen(at(variant=INT8)), at(variant=FULL)]
    for table in re.findall(r"(?:^\|.*\|\n)+", rendered(*seen), flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1


def run_of(stacks: int, fault: Callable[[Observation], Observation]) -> tuple[list[StackRow], list[Observation]]:
    """Make a run of this many stacks with every cell of a CPU, each with `fault`."""
    seen = [
        fault(made)
        for number in range(stacks)
        for flow, variant in cells_on(DeviceKind.CPU)
        for made in [at(flow.name, variant, f"trl0.{number}-py311")]
    ]
    cells = len(cells_on(DeviceKind.CPU))
    return [ran(*seen[i : i + cells]) for i in range(0, len(seen), cells)], seen


def test_cells_that_pass_have_their_numbers_where_they_fit_and_only_names_otherwise() -> None:
    rows, seen = run_of(1, lambda made: made)
    assert wording.NUMBERS_ELSEWHERE not in markdown.render(summary_of(rows, *seen))
    rows, seen = run_of(60, lambda made: made)
    text = markdown.render(summary_of(rows, *seen))
    assert text.count(wording.NUMBERS_ELSEWHERE) == 60


def test_sixty_stacks_with_every_cell_are_shown_whole() -> None:
    """Some cells are frozen, and no cell is omitted."""
    rows, seen = run_of(60, lambda made: frozen_loud(made) if made.flow == "sft-peft-model" else made)
    text = markdown.render(summary_of(rows, *seen))
    assert len(text.encode()) < 1_000_000
    assert "left out" not in text
    assert text.count("qwen2-nf4-gc]`") == 60 * sum(str(v) == "qwen2-nf4-gc" for _, v in cells_on(DeviceKind.CPU))


def test_a_file_that_is_too_large_says_what_it_omits() -> None:
    """In sixty stacks every cell fails for another reason: the verdict and as many causes as fit are shown."""
    number = iter(range(10_000))
    letters = "abcdefghij"

    def crash(made: Observation) -> Observation:
        own = "".join(
            letters[int(digit)] for digit in str(next(number))
        )  # causes that differ only in numbers are one cause
        return b.failed(made, "RuntimeError", f"{own} {'long message ' * 100}", Stage.TRAINER)

    rows, seen = run_of(60, crash)
    text = markdown.render(summary_of(rows, *seen))
    assert 900_000 < len(text.encode()) <= 1_000_000
    assert "**Unhealthy: " in text
    assert re.search(
        r"\n\n[1-9][0-9]{0,2}(?:,[0-9]{3})* sections left out: CI systems show no larger file\. "
        r"verdicts\.jsonl has every cell\.\n$",
        text,
    )


@pytest.mark.parametrize("variant", [NF4, NF4_NOGC])
def test_a_loss_is_shown_with_the_decimals_it_takes(variant: Variant) -> None:
    """Four decimals, or six if four would look flat."""
    seen = at(variant=variant)
    assert seen.training is not None
    barely = dataclasses.replace(seen.training, eval_before=4.892134, eval_after=4.892121)
    assert "| 4.8921 -> 4.4012 |" in rendered(seen)
    assert "| 4.892134 -> 4.892121 |" in rendered(dataclasses.replace(seen, training=barely))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ask @maintainer", "ask @<!-- -->maintainer"),
        ("see #1 and GH-2", "see #<!-- -->1 and GH-<!-- -->2"),
        (
            "at https://evil.example and www.evil.example",
            "at https:<!-- -->//evil.example and www<!-- -->.evil.example",
        ),
        ("[x](javascript:y) <img>", r"\[x\](javascript:y) \<img>"),
        ("\x1b]0;x\x07\u202e", r"\\x1b\]0;x\\x07\\u202e"),
        ("trl#3926 in sft-full[qwen2]@cpu", r"trl#3926 in sft-full\[qwen2\]@cpu"),
    ],
)
def test_foreign_text_names_nobody_and_links_nowhere(text: str, shown: str) -> None:
    """In a comment of a pull request a name notifies, and a number links."""
    assert plain(text) == shown
