"""A baseline is a whole run, packed, with its provenance; nothing is deleted before that is certain."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import builders as b
import pytest
from deep_builders import deep
from finetune_compat.checks.digests import check_digests
from finetune_compat.contract.catalog import flow_named
from finetune_compat.contract.errors import CompatError, UnknownName
from finetune_compat.contract.recipe import Recipe
from finetune_compat.contract.records import Observation, Precision, Variant, to_json
from finetune_compat.evidence import baseline
from finetune_compat.evidence.measured import measured_of, write_measured
from finetune_compat.results.cpu_seconds import CPU_SECONDS, read_cpu_seconds
from finetune_compat.results.digests import read_digests
from finetune_compat.results.run_files import RowState, StackRow, read_observations, unfinished, write_row
from finetune_compat.store.store import Store


def recipe_of(seen: Observation) -> Recipe:
    """A recipe that `seen` agrees with."""
    return Recipe(
        cell=seen.cell,
        lock_sha256=seen.stack.lock_sha256,
        python=seen.stack.python,
        torch=seen.stack.resolved["torch"],
        base_torch=False,
        device="x86_64",
        features=seen.device.features,
        sources="a" * 64,
        given="b" * 64,
        model="tiny",
        steps=10,
        seed=seen.seed,
        attention="sdpa",
        handicap=None,
        deep=False,
    )


SEEN = b.healthy("sft-full", Variant("qwen2", Precision.FULL, gradient_checkpointing=True))


CELL = (flow_named(SEEN.flow), SEEN.variant)

OTHER = (flow_named("trainer-peft-model"), Variant("qwen2", Precision.NF4, gradient_checkpointing=False))
"""It has no cell of the deep tier."""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_places: Any) -> Path:
    """A finished run of one cell, and an empty directory for baselines."""
    (tmp_path / "checkout").mkdir()
    in_places(checkout=tmp_path / "checkout")
    monkeypatch.setattr(baseline, "cells_on", lambda device: [CELL])
    monkeypatch.setattr(baseline, "write_measured", lambda: None)  # it writes beside the ledger of this project
    run = tmp_path / "runs" / "one"
    write_row(run, StackRow(SEEN.stack.name, RowState.RAN, "", (SEEN.cell,)))
    (run / "observations.jsonl").write_text(f"{to_json(SEEN)}\n", encoding="utf-8")
    return run


def not_whole(run: Path, what: str) -> str:
    """The message about a run that is not whole."""
    return (
        f"{run}: the run is incomplete: {what}\n"
        "In later comparisons, missing cells of a baseline would look like lost coverage.\n"
        "Run these stacks again, in the same run, or run all stacks again."
    )


def test_a_kept_run_reads_as_the_run_did(run: Path) -> None:
    """The packed observations equal the run's, and the provenance names their origin."""
    target = baseline.save(str(run), "cpu")
    assert read_observations(target / "observations.jsonl")[1] == {SEEN.cell: SEEN}
    provenance = json.loads((target / "provenance.json").read_text(encoding="utf-8"))
    assert (provenance["run"], provenance["cells"], provenance["base_torch"]) == ("one", 1, False)
    assert provenance["command"] == "nox -s compat-3.11 -j 2 -- --tier full; compat keep"


def test_a_baseline_has_the_digests_of_what_it_was_measured_with(run: Path) -> None:
    """Of each observation that the store holds; the lock also of the others. And of the checks of that day."""
    recipe = recipe_of(SEEN)
    Store.configured().put(recipe, SEEN)
    digests = read_digests(baseline.save(str(run), "cpu"))
    assert digests is not None
    assert digests.recipe(SEEN) == recipe
    assert (digests.locks, digests.checks) == ({SEEN.stack.name: SEEN.stack.lock_sha256}, check_digests())


def test_a_baseline_has_the_cpu_seconds_of_its_cells(run: Path) -> None:
    """Those that are stored with the observation, byte for byte. Without any there is no file."""
    Store.configured().put(recipe_of(SEEN), dataclasses.replace(SEEN, duration_s=9.0), 8.0)
    target = baseline.save(str(run), "cpu")
    assert (read_cpu_seconds(target), (target / CPU_SECONDS).exists()) == ({}, False)
    Store.configured().put(recipe_of(SEEN), SEEN, 0.5)
    assert read_cpu_seconds(baseline.save(str(run), "cpu")) == {SEEN.cell: 0.5}


def test_a_baseline_that_is_kept_moves_the_measured_releases(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the file beside the ledger of the same checkout."""
    matrices = tmp_path / "checkout" / "matrices"
    matrices.mkdir()
    monkeypatch.setattr(baseline, "write_measured", write_measured)
    baseline.save(str(run), "cpu")
    assert json.loads((matrices / "measured.json").read_text(encoding="utf-8")) == measured_of([SEEN])


def test_what_an_observation_was_measured_with_is_not_guessed(run: Path) -> None:
    """One that is not in the store, byte for byte, has no recipe."""
    Store.configured().put(recipe_of(SEEN), dataclasses.replace(SEEN, duration_s=9.0))
    digests = read_digests(baseline.save(str(run), "cpu"))
    assert digests is not None
    assert (digests.recipe(SEEN), digests.sources, digests.locks) == (
        None,
        {},
        {SEEN.stack.name: SEEN.stack.lock_sha256},
    )


def test_a_baseline_has_its_summary(run: Path) -> None:
    """With what changed since it was measured, and nothing else is left beside it."""
    Store.configured().put(recipe_of(SEEN), SEEN)
    target = baseline.save(str(run), "cpu")
    text = (target / "summary.md").read_text(encoding="utf-8")
    assert "Changed since: the sources of every flow; the lock of trl0.24-py311." in text  # both are made up here
    names = ["digests.json", "observations.jsonl.gz", "provenance.json", "rows", "summary.md"]
    assert sorted(path.name for path in target.iterdir()) == names
    assert list(target.parent.iterdir()) == [target]


def test_an_error_while_it_is_kept_leaves_the_baseline_as_it_was(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole, and alone."""
    kept = baseline.save(str(run), "cpu")
    before = {path: path.read_bytes() for path in kept.rglob("*") if path.is_file()}

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(baseline, "write_digests", full)
    with pytest.raises(OSError, match="No space left"):
        baseline.save(str(run), "cpu")
    assert {path: path.read_bytes() for path in kept.rglob("*") if path.is_file()} == before
    assert list(kept.parent.iterdir()) == [kept]


def test_a_run_that_lost_a_cell_is_not_kept(run: Path) -> None:
    """It was selected, and its process left nothing."""
    lost = b.healthy("sft-full", Variant("qwen2", Precision.FULL, gradient_checkpointing=False)).cell
    write_row(run, StackRow(SEEN.stack.name, RowState.RAN, "", (SEEN.cell, lost)))
    with pytest.raises(CompatError) as raised:
        baseline.save(str(run), "cpu")
    assert str(raised.value) == not_whole(run, SEEN.stack.name)


def test_provenance_names_the_tier_that_ran(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command of the quick tier would not measure it again."""
    monkeypatch.setattr(baseline, "cells_on", lambda device: [CELL, OTHER])
    other = b.healthy(OTHER[0].name, OTHER[1])
    write_row(run, StackRow(SEEN.stack.name, RowState.RAN, "", (SEEN.cell, other.cell)))
    (run / "observations.jsonl").write_text(f"{to_json(deep(SEEN))}\n{to_json(other)}\n", encoding="utf-8")
    provenance = json.loads((baseline.save(str(run), "deep") / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["command"] == "nox -s compat-3.11 -j 2 -- --tier deep; compat keep"


def test_the_cells_of_the_deep_tier_are_whole_without_the_others(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells measured in the deep tier are whole; the same cells of the quick tier are a selection."""
    monkeypatch.setattr(baseline, "cells_on", lambda device: [CELL, OTHER])
    with pytest.raises(CompatError) as raised:
        baseline.save(str(run), "deep")
    assert str(raised.value) == not_whole(run, SEEN.stack.name)
    (run / "observations.jsonl").write_text(f"{to_json(deep(SEEN))}\n", encoding="utf-8")
    provenance = json.loads((baseline.save(str(run), "deep") / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["command"] == "nox -s compat-3.11 -j 2 -- --tier deep-only; compat keep"


def test_some_cells_of_the_deep_tier_are_not_kept(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A selection of deep cells is not whole either."""
    monkeypatch.setattr(baseline, "cells_on", lambda device: [CELL, (flow_named("sft-peft-model"), b.NF4)])
    (run / "observations.jsonl").write_text(f"{to_json(deep(SEEN))}\n", encoding="utf-8")
    with pytest.raises(CompatError) as raised:
        baseline.save(str(run), "deep")
    assert str(raised.value) == not_whole(run, SEEN.stack.name)


@pytest.mark.parametrize("name", ["..", "", "/elsewhere", "a/b", ".cpu"])
def test_a_name_outside_of_the_directory_deletes_nothing(run: Path, name: str) -> None:
    """A name becomes a directory below reports/baseline, or is refused."""
    with pytest.raises(CompatError) as raised:
        baseline.save(str(run), name)
    assert str(raised.value) == (
        f"--name: {name!r} is not a valid name of a baseline\nThe name becomes a directory below reports/baseline.\n"
        "Use lower-case letters, digits and dashes, for example cpu or h200."
    )
    assert (run / "observations.jsonl").exists()


def test_a_run_that_has_not_ended_is_not_kept(run: Path) -> None:
    """The earlier baseline is unchanged."""
    kept = baseline.save(str(run), "cpu")
    write_row(run, unfinished("trl1.16-py311", ()))
    with pytest.raises(CompatError) as raised:
        baseline.save(str(run), "cpu")
    assert str(raised.value) == not_whole(run, "trl1.16-py311")
    assert (kept / "observations.jsonl.gz").exists()


def test_a_baseline_is_not_kept_again(run: Path) -> None:
    """Committing a baseline onto itself would delete it first."""
    kept = baseline.save(str(run), "cpu")
    with pytest.raises(CompatError) as raised:
        baseline.save(str(kept), "cpu")
    assert str(raised.value) == (
        f"{kept}: this is a baseline already\nName a run below reports/runs, or a copy of one."
    )
    assert (kept / "observations.jsonl.gz").exists()


def test_a_run_in_which_no_cell_ran_is_not_kept(tmp_path: Path, run: Path) -> None:
    """A run with only unsolvable stacks is no baseline."""
    other = tmp_path / "runs" / "two"
    write_row(other, StackRow("trl0.4-py311", RowState.UNINSTALLABLE, "no versions go together", ()))
    with pytest.raises(CompatError) as raised:
        baseline.save(str(other), "cpu")
    assert str(raised.value) == not_whole(other, "no cell of it ran")


def test_a_run_of_some_cells_is_not_kept(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A selection by -k does not replace the whole matrix."""
    monkeypatch.setattr(baseline, "cells_on", lambda device: [CELL, (flow_named("trainer-peft-model"), b.NF4)])
    with pytest.raises(CompatError) as raised:
        baseline.save(str(run), "cpu")
    assert str(raised.value) == not_whole(run, SEEN.stack.name)


def test_a_run_of_whole_flows_is_kept_as_such(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has all cells of the named flows and no others; the provenance names the flows."""
    monkeypatch.setattr(baseline, "cells_on", lambda device: [CELL, OTHER])
    target = baseline.save(str(run), "cpu", [SEEN.flow])
    provenance = json.loads((target / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["command"] == f"compat run --flows {SEEN.flow}; compat keep --flows {SEEN.flow}"
    with pytest.raises(CompatError) as raised:
        baseline.save(str(run), "cpu", [SEEN.flow, OTHER[0].name])
    assert str(raised.value) == not_whole(run, SEEN.stack.name)
    with pytest.raises(UnknownName):
        baseline.save(str(run), "cpu", ["sft"])


def test_a_run_of_whole_variants_is_kept_as_such(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All cells whose variant matches, and no others; provenance says which."""
    monkeypatch.setattr(baseline, "cells_on", lambda device: [CELL, OTHER])
    target = baseline.save(str(run), "cpu", variants=["*-full-*"])
    provenance = json.loads((target / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["command"] == "compat run --variants '*-full-*'; compat keep --variants '*-full-*'"
    with pytest.raises(CompatError) as raised:
        baseline.save(str(run), "cpu", variants=["*-full-*", "qwen2-nf4-*"])
    assert str(raised.value) == not_whole(run, SEEN.stack.name)
    with pytest.raises(UnknownName):
        baseline.save(str(run), "cpu", variants=["*-nf5-*"])


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
    """An older stack has fewer cells."""
    later = [
        (flow_named("sft-peft-config"), Variant("qwen2.5-vl", Precision.NF4, gradient_checkpointing=True)),
        (flow_named("rft-all-linear"), b.NF4),
    ]
    monkeypatch.setattr(baseline, "cells_on", lambda device: [CELL, *later])
    stack = dataclasses.replace(SEEN.stack, resolved={**SEEN.stack.resolved, **since})
    (run / "observations.jsonl").write_text(f"{to_json(dataclasses.replace(SEEN, stack=stack))}\n", encoding="utf-8")
    if whole:
        assert baseline.save(str(run), "cpu").is_dir()
    else:
        with pytest.raises(CompatError) as raised:
            baseline.save(str(run), "cpu")
        assert str(raised.value) == not_whole(run, SEEN.stack.name)


def test_a_run_with_lost_cells_is_not_kept(run: Path) -> None:
    """All cells of one stack were lost, next to a whole stack."""
    write_row(run, StackRow("trl0.25-py311", RowState.RAN, "", ("trl0.25-py311/sft-full[qwen2-full-gc]@cpu",)))
    with pytest.raises(CompatError) as raised:
        baseline.save(str(run), "cpu")
    assert str(raised.value) == not_whole(run, "trl0.25-py311")


def test_a_run_of_real_weights_is_no_baseline(run: Path) -> None:
    """A comparison with it would need the same weights; the earlier baseline is unchanged."""
    kept = baseline.save(str(run), "cpu")
    seen = b.real()
    write_row(run, StackRow(seen.stack.name, RowState.RAN, "", (SEEN.cell, seen.cell)))
    with (run / "observations.jsonl").open("a", encoding="utf-8") as file:
        file.write(f"{to_json(seen)}\n")
    with pytest.raises(CompatError) as raised:
        baseline.save(str(run), "cpu")
    assert str(raised.value) == (
        f"{run}: cells of this run trained real weights: tied-llama\n"
        "A baseline must be reproducible by anyone; these weights are not part of the project.\n"
        "Use a run that was made without --model."
    )
    assert (kept / "observations.jsonl.gz").exists()
