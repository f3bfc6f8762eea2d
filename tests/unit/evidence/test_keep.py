"""A baseline is a whole run, packed, with its provenance; nothing is deleted before that is certain."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import builders as b
import pytest
from deep_builders import deep
from finetune_compat.contract.catalog import flow_named
from finetune_compat.contract.errors import CompatError, UnknownName
from finetune_compat.contract.records import Precision, Variant, to_json
from finetune_compat.evidence import baseline
from finetune_compat.results.run_files import RowState, StackRow, read_observations, unfinished, write_row

SEEN = b.healthy("sft-full", Variant("qwen2", Precision.FULL, gradient_checkpointing=True))


CELL = (flow_named(SEEN.flow), SEEN.variant)

OTHER = (flow_named("trainer-peft-model"), Variant("qwen2", Precision.NF4, gradient_checkpointing=False))
"""No cell of the deep tier."""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_places: Any) -> Path:
    """A finished run of one cell, beside an empty place for baselines."""
    (tmp_path / "checkout").mkdir()
    in_places(checkout=tmp_path / "checkout")
    monkeypatch.setattr(baseline, "cells_on", lambda device: [CELL])
    run = tmp_path / "runs" / "one"
    write_row(run, StackRow(SEEN.stack.name, RowState.RAN, "", (SEEN.cell,)))
    (run / "observations.jsonl").write_text(f"{to_json(SEEN)}\n", encoding="utf-8")
    return run


def not_whole(run: Path, what: str) -> str:
    """The refusal of a run with holes."""
    return (
        f"{run}: the run is incomplete: {what}\n"
        "In later comparisons, missing cells of a baseline would look like lost coverage.\n"
        "Run these stacks again, in the same run, or run all stacks again."
    )


def test_a_kept_run_reads_as_the_run_did(run: Path) -> None:
    """The packed observations are the same values, and provenance says where they come from."""
    target = baseline.keep(str(run), "cpu")
    assert read_observations(target / "observations.jsonl")[1] == {SEEN.cell: SEEN}
    provenance = json.loads((target / "provenance.json").read_text(encoding="utf-8"))
    assert (provenance["run"], provenance["cells"], provenance["base_torch"]) == ("one", 1, False)
    assert provenance["command"] == "nox -s compat-3.11 -j 2; compat keep"


def test_provenance_names_the_tier_that_ran(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command of the quick tier would not measure it again."""
    monkeypatch.setattr(baseline, "cells_on", lambda device: [CELL, OTHER])
    other = b.healthy(OTHER[0].name, OTHER[1])
    write_row(run, StackRow(SEEN.stack.name, RowState.RAN, "", (SEEN.cell, other.cell)))
    (run / "observations.jsonl").write_text(f"{to_json(deep(SEEN))}\n{to_json(other)}\n", encoding="utf-8")
    provenance = json.loads((baseline.keep(str(run), "deep") / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["command"] == "nox -s compat-3.11 -j 2 -- --tier deep; compat keep"


def test_the_cells_of_the_deep_tier_are_whole_without_the_others(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured deep; the same cells of the quick tier are a selection."""
    monkeypatch.setattr(baseline, "cells_on", lambda device: [CELL, OTHER])
    with pytest.raises(CompatError) as raised:
        baseline.keep(str(run), "deep")
    assert str(raised.value) == not_whole(run, SEEN.stack.name)
    (run / "observations.jsonl").write_text(f"{to_json(deep(SEEN))}\n", encoding="utf-8")
    provenance = json.loads((baseline.keep(str(run), "deep") / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["command"] == "nox -s compat-3.11 -j 2 -- --tier deep-only; compat keep"


def test_some_cells_of_the_deep_tier_are_not_kept(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has holes as well."""
    monkeypatch.setattr(baseline, "cells_on", lambda device: [CELL, (flow_named("sft-peft-model"), b.NF4)])
    (run / "observations.jsonl").write_text(f"{to_json(deep(SEEN))}\n", encoding="utf-8")
    with pytest.raises(CompatError) as raised:
        baseline.keep(str(run), "deep")
    assert str(raised.value) == not_whole(run, SEEN.stack.name)


@pytest.mark.parametrize("name", ["..", "", "/elsewhere", "a/b", ".cpu"])
def test_a_name_that_leads_elsewhere_deletes_nothing(run: Path, name: str) -> None:
    """A name becomes a directory below reports/baseline, or is refused."""
    with pytest.raises(CompatError) as raised:
        baseline.keep(str(run), name)
    assert str(raised.value) == (
        f"--name: {name!r} is not a valid name of a baseline\nThe name becomes a directory below reports/baseline.\n"
        "Use lower-case letters, digits and dashes, for example cpu or h200."
    )
    assert (run / "observations.jsonl").exists()


def test_a_run_that_has_not_ended_is_not_kept(run: Path) -> None:
    """And what was kept before stays."""
    kept = baseline.keep(str(run), "cpu")
    write_row(run, unfinished("trl1.16-py311", ()))
    with pytest.raises(CompatError) as raised:
        baseline.keep(str(run), "cpu")
    assert str(raised.value) == not_whole(run, "trl1.16-py311")
    assert (kept / "observations.jsonl.gz").exists()


def test_a_baseline_is_not_kept_again(run: Path) -> None:
    """Not onto itself, which would delete it first."""
    kept = baseline.keep(str(run), "cpu")
    with pytest.raises(CompatError) as raised:
        baseline.keep(str(kept), "cpu")
    assert str(raised.value) == (
        f"{kept}: this is a baseline already\nName a run below reports/runs, or a copy of one."
    )
    assert (kept / "observations.jsonl.gz").exists()


def test_a_run_in_which_no_cell_ran_is_not_kept(tmp_path: Path, run: Path) -> None:
    """Uninstallable stacks alone are no baseline."""
    other = tmp_path / "runs" / "two"
    write_row(other, StackRow("trl0.4-py311", RowState.UNINSTALLABLE, "no versions go together", ()))
    with pytest.raises(CompatError) as raised:
        baseline.keep(str(other), "cpu")
    assert str(raised.value) == not_whole(other, "no cell of it ran")


def test_a_run_of_some_cells_is_not_kept(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A selection by -k does not replace the whole matrix."""
    monkeypatch.setattr(baseline, "cells_on", lambda device: [CELL, (flow_named("trainer-peft-model"), b.NF4)])
    with pytest.raises(CompatError) as raised:
        baseline.keep(str(run), "cpu")
    assert str(raised.value) == not_whole(run, SEEN.stack.name)


def test_a_run_of_whole_flows_is_kept_as_such(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All cells of the flows that are named, and no others; provenance says which."""
    monkeypatch.setattr(baseline, "cells_on", lambda device: [CELL, OTHER])
    target = baseline.keep(str(run), "cpu", [SEEN.flow])
    provenance = json.loads((target / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["command"] == f"compat run --flows {SEEN.flow}; compat keep --flows {SEEN.flow}"
    with pytest.raises(CompatError) as raised:
        baseline.keep(str(run), "cpu", [SEEN.flow, OTHER[0].name])
    assert str(raised.value) == not_whole(run, SEEN.stack.name)
    with pytest.raises(UnknownName):
        baseline.keep(str(run), "cpu", ["sft"])


def test_a_run_of_whole_variants_is_kept_as_such(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All cells whose variant matches, and no others; provenance says which."""
    monkeypatch.setattr(baseline, "cells_on", lambda device: [CELL, OTHER])
    target = baseline.keep(str(run), "cpu", variants=["*-full-*"])
    provenance = json.loads((target / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["command"] == "compat run --variants '*-full-*'; compat keep --variants '*-full-*'"
    with pytest.raises(CompatError) as raised:
        baseline.keep(str(run), "cpu", variants=["*-full-*", "qwen2-nf4-*"])
    assert str(raised.value) == not_whole(run, SEEN.stack.name)
    with pytest.raises(UnknownName):
        baseline.keep(str(run), "cpu", variants=["*-nf5-*"])


@pytest.mark.parametrize(
    ("since", "whole"),
    [
        ({"transformers": "4.48.3", "trl": "0.7.11"}, True),
        ({"transformers": "4.49.0", "trl": "0.7.11"}, False),
        ({"transformers": "4.48.3", "trl": "0.8.0"}, False),
    ],
)
def test_a_run_need_not_have_cells_that_its_versions_cannot_have(
    run: Path, monkeypatch: pytest.MonkeyPatch, since: dict[str, str], *, whole: bool
) -> None:
    """An older stack has fewer cells, and all of them is all of them."""
    later = [
        (flow_named("sft-peft-config"), Variant("qwen2.5-vl", Precision.NF4, gradient_checkpointing=True)),
        (flow_named("rft-all-linear"), b.NF4),
    ]
    monkeypatch.setattr(baseline, "cells_on", lambda device: [CELL, *later])
    stack = dataclasses.replace(SEEN.stack, resolved={**SEEN.stack.resolved, **since})
    (run / "observations.jsonl").write_text(f"{to_json(dataclasses.replace(SEEN, stack=stack))}\n", encoding="utf-8")
    if whole:
        assert baseline.keep(str(run), "cpu").is_dir()
    else:
        with pytest.raises(CompatError) as raised:
            baseline.keep(str(run), "cpu")
        assert str(raised.value) == not_whole(run, SEEN.stack.name)


def test_a_run_whose_cells_left_nothing_behind_is_not_kept(run: Path) -> None:
    """Beside a stack that is whole, one whose cells were selected and lost."""
    write_row(run, StackRow("trl0.25-py311", RowState.RAN, "", ("trl0.25-py311/sft-full[qwen2-full-gc]@cpu",)))
    with pytest.raises(CompatError) as raised:
        baseline.keep(str(run), "cpu")
    assert str(raised.value) == not_whole(run, "trl0.25-py311")


def test_a_run_of_real_weights_is_no_baseline(run: Path) -> None:
    """Whoever compares with it would need the same weights; what was kept before stays."""
    kept = baseline.keep(str(run), "cpu")
    seen = b.real()
    write_row(run, StackRow(seen.stack.name, RowState.RAN, "", (SEEN.cell, seen.cell)))
    with (run / "observations.jsonl").open("a", encoding="utf-8") as file:
        file.write(f"{to_json(seen)}\n")
    with pytest.raises(CompatError) as raised:
        baseline.keep(str(run), "cpu")
    assert str(raised.value) == (
        f"{run}: cells of this run trained real weights: tied-llama\n"
        "A baseline must be reproducible by anyone; these weights are not part of the project.\n"
        "Use a run that was made without --model."
    )
    assert (kept / "observations.jsonl.gz").exists()
