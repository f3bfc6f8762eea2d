"""`compat renew`: what is out of date of a baseline, that only this runs, and that only a complete run replaces it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import builders as b
import pytest
from deep_builders import deep
from finetune_compat import cli
from finetune_compat.checks.ledger import Ledger
from finetune_compat.contract.catalog import DEEP_CELLS, cells_on
from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.contract.errors import CompatError, ExitCode
from finetune_compat.contract.plan import Plan
from finetune_compat.contract.recipe import Recipe
from finetune_compat.contract.records import DeviceKind, Observation, to_json
from finetune_compat.evidence import baseline, renew
from finetune_compat.evidence.baseline import save
from finetune_compat.evidence.renew import Reason, RenewRequest, list_only, read_baseline, renewal, run_request
from finetune_compat.machine.places import places
from finetune_compat.results.digests import Digests, read_digests, write_digests
from finetune_compat.results.run_files import RowState, StackRow, read_rows, write_row
from finetune_compat.run import command, stack_run
from finetune_compat.run import request as requested
from finetune_compat.run.options import RunOptions, read_options
from finetune_compat.run.selection import AskedCells, cells_of
from finetune_compat.stacks.locks import Lock, locked
from finetune_compat.stacks.matrix import Matrix, read_matrix
from finetune_compat.store.addresses import installed, recipes
from finetune_compat.store.store import Store
from run_builders import without_processes

FLOWS = ("sft-full", "rft-labels-masked")
OLD, NEW = "trl0.22-py311", "trl1.16-py311"


class Nox:
    """Stands in for nox: sessions observe and store the cells they are given, but for those that the machine loses."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.loses: set[str] = set()

    def __call__(self, words: Sequence[str], **_: object) -> Nox:
        options = Path(words[words.index("--options") + 1])
        cells = read_options(options).cells or ()
        self.asked.append(cells)
        with (options.parent / "observations.jsonl").open("a") as file:
            file.writelines(f"{measured(cell)}\n" for cell in cells if cell not in self.loses)
        for row in read_rows(options.parent):
            write_row(options.parent, StackRow(row.name, RowState.RAN, "", row.selected))
        return self

    def poll(self) -> int:
        return 0


def matrix() -> Matrix:
    """Two stacks."""
    whole = read_matrix()
    return dataclasses.replace(whole, stacks=tuple(s for s in whole.stacks if s.on("3.11") in (OLD, NEW)))


@cache
def today() -> dict[str, Recipe]:
    """The recipes of all cells of `FLOWS` on both stacks, as a session finds them."""
    found: dict[str, Recipe] = {}
    for stack in matrix().stacks:
        lock = locked(matrix().plan(stack, "3.11"))
        assert isinstance(lock, Lock)
        plan: Plan = stack_run.plan_of(
            stack.on("3.11"), lock, RunOptions(), Ledger(issues=()), DeviceKind.CPU, base_torch=False
        )
        plan = dataclasses.replace(plan, cells=cells_of(plan.cells, AskedCells(flows=FLOWS)))
        python = requested.env_python(None)  # type: ignore[arg-type]
        found |= recipes(plan, installed(python, lock))
    return found


def observed(cell: str, recipe: Recipe) -> Observation:
    """What a healthy cell of that recipe says."""
    parsed = parse_cell(cell)
    variant = next(v for f, v in cells_on(DeviceKind.CPU) if f.name == parsed.flow and str(v) == parsed.variant)
    seen = b.healthy(parsed.flow, variant, stack=parsed.stack, features=recipe.features)
    resolved = {**seen.stack.resolved, "torch": recipe.torch}
    stack = dataclasses.replace(
        seen.stack, lock_sha256=recipe.lock_sha256, python=recipe.python, resolved=resolved, torch_wanted="2.13.0"
    )
    return dataclasses.replace(seen, stack=stack, seed=recipe.seed)


def measured(cell: str) -> str:
    """Measure a cell: its observation is in the store, and its line is returned."""
    recipe = today()[cell]
    seen = observed(cell, recipe)
    Store.configured().put(recipe, seen)
    return to_json(seen)


@pytest.fixture
def nox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_places: Any) -> Nox:
    """No process, a matrix of two stacks, an environment of files alone, and a baseline `cpu` that is up to date."""
    stand_in = Nox()
    without_processes(stand_in, tmp_path, monkeypatch)
    monkeypatch.setattr(os, "nice", lambda _: 0)
    monkeypatch.setattr(baseline, "write_measured", lambda: None)  # it writes beside the ledger of this project
    monkeypatch.setattr(baseline, "commit", lambda: "unknown")  # git would be started as nox is
    for module in (requested, renew):
        monkeypatch.setattr(module, "read_matrix", matrix)
    (tmp_path / "checkout").mkdir()
    in_places(checkout=tmp_path / "checkout", runs=tmp_path / "runs")
    kept("cpu", list(today()))
    shutil.rmtree(places().store)  # what is there must come from the baseline
    return stand_in


def kept(name: str, cells: Sequence[str], flows: Sequence[str] = FLOWS) -> Path:
    """A baseline of these cells."""
    run = places().runs / f"made-{name}"
    for stack in dict.fromkeys(parse_cell(cell).stack for cell in cells):
        row = tuple(cell for cell in cells if parse_cell(cell).stack == stack)
        write_row(run, StackRow(stack, RowState.RAN, "", row))
    (run / "observations.jsonl").write_text("".join(f"{measured(cell)}\n" for cell in cells))
    return save(str(run), name, flows)


def of_flow(flow: str) -> list[str]:
    return [cell for cell in today() if parse_cell(cell).flow == flow]


def changed(change: Callable[[Digests], Digests]) -> None:
    """As if the baseline had been measured with something else."""
    path = places().baselines / "cpu"
    digests = read_digests(path)
    assert digests is not None
    write_digests(path, change(digests))


def other_sources(flow: str) -> Callable[[Digests], Digests]:
    return lambda digests: dataclasses.replace(digests, sources={**digests.sources, flow: "5f" * 32})


def state() -> str:
    """A digest of every file of the baselines."""
    files = sorted(path for path in places().baselines.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(bytes(path) + path.read_bytes() for path in files)).hexdigest()


def test_a_baseline_that_is_up_to_date_is_not_measured_again(nox: Nox, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing runs and nothing is written."""
    before = state()
    assert renew.renew(RenewRequest("cpu")) == ExitCode.HEALTHY
    assert (nox.asked, state()) == ([], before)
    said = f"cpu: {len(today())} cells on 2 stacks: all are as in the baseline, nothing to renew\n"
    assert capsys.readouterr().out == said


def test_only_what_is_out_of_date_runs_and_the_rest_comes_from_the_baseline(nox: Nox) -> None:
    """One flow's sources changed. The cells of the other one are not in the store: the baseline has them."""
    changed(other_sources("sft-full"))
    assert renew.renew(RenewRequest("cpu")) == ExitCode.HEALTHY
    assert [sorted(cells) for cells in nox.asked] == [sorted(of_flow("sft-full"))]
    after = read_baseline("cpu")
    assert set(after.observations) == set(today())
    assert {cell: after.digests.recipe(seen) for cell, seen in after.observations.items()} == today()
    assert renewal(after, RenewRequest("cpu")).up_to_date


def test_a_renewal_that_lost_cells_replaces_nothing_and_resumes(nox: Nox) -> None:
    """What it measured is in the store; the same command measures the others."""
    changed(other_sources("sft-full"))
    before, lost = state(), of_flow("sft-full")[0]
    nox.loses = {lost}
    assert renew.renew(RenewRequest("cpu")) == ExitCode.COULD_NOT_TELL
    assert state() == before
    nox.loses = set()
    nox.asked.clear()
    os.environ.pop("COMPAT_RUN_ID", None)  # another process
    assert renew.renew(RenewRequest("cpu")) == ExitCode.HEALTHY
    assert (nox.asked, renewal(read_baseline("cpu"), RenewRequest("cpu")).up_to_date) == ([(lost,)], True)


def test_an_interrupted_renewal_replaces_nothing(nox: Nox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it has so far."""
    changed(other_sources("sft-full"))
    before = state()
    run = places().runs / "made-cpu"
    monkeypatch.setattr(command, "execute", lambda _: command.Ended(run, command.INTERRUPTED + 15))
    assert renew.renew(RenewRequest("cpu")) == command.INTERRUPTED + 15
    assert state() == before


def test_stacks_are_measured_in_parts_and_the_last_part_replaces_the_baseline(
    nox: Nox, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each in a process of its own."""
    changed(other_sources("sft-full"))
    before = state()
    renew.renew(RenewRequest("cpu", stacks=("trl0.22",)))
    assert (nox.asked.pop(), state()) == (tuple(c for c in of_flow("sft-full") if parse_cell(c).stack == OLD), before)
    left = [cell for cell in of_flow("sft-full") if parse_cell(cell).stack == NEW]
    assert f"cpu is not replaced yet: {len(left)} cells to run" in capsys.readouterr().out
    os.environ.pop("COMPAT_RUN_ID", None)
    renew.renew(RenewRequest("cpu", stacks=("trl1.16",)))
    assert nox.asked.pop() == tuple(c for c in of_flow("sft-full") if parse_cell(c).stack == NEW)
    assert renewal(read_baseline("cpu"), RenewRequest("cpu")).up_to_date


def test_the_list_says_what_would_run_and_runs_nothing(nox: Nox, capsys: pytest.CaptureFixture[str]) -> None:
    """By stack and flow, with the time; the store stays empty too."""
    changed(other_sources("sft-full"))
    before = state()
    assert list_only(RenewRequest("cpu")) == ExitCode.HEALTHY
    assert (nox.asked, state(), places().store.exists()) == ([], before, False)
    cells, again = len(today()), len(of_flow("sft-full"))
    # Two stacks start in 9 s each, and each cell takes half a second.
    each, whole = 9 + again / 4, 18 + again / 2
    assert capsys.readouterr().out.splitlines() == [
        f"cpu: {cells} cells on 2 stacks: {cells - again} as in the baseline, 0 measured since, {again} to run",
        f"why: {again} other sources",
        f"about {whole:.0f} s, 1 stack at a time",
        "",
        "by stack",
        f"  trl0.22-py311      {again // 2}  about {each:.0f} s",
        f"  trl1.16-py311      {again // 2}  about {each:.0f} s",
        "",
        "by flow",
        f"  sft-full           {again}",
    ]


def gone(digests: Digests) -> Digests:
    return dataclasses.replace(digests, locks=dict.fromkeys(digests.locks, "0" * 64))


def elsewhere(digests: Digests) -> Digests:
    other = {name: dataclasses.replace(on, device="other") for name, on in digests.environments.items()}
    return dataclasses.replace(digests, environments=other)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda digests: digests, None),
        (gone, Reason.LOCK),
        (elsewhere, Reason.ENVIRONMENT),
        (lambda digests: Digests(), Reason.UNKNOWN),
        (lambda digests: Digests(locks=digests.locks, sources=digests.sources), Reason.UNKNOWN),
        (other_sources("sft-full"), Reason.SOURCES),
    ],
)
def test_every_cell_that_is_out_of_date_has_a_reason(nox: Nox, change: Any, why: Reason | None) -> None:
    """What is not recorded is not known, and never taken for unchanged."""
    changed(change)
    found = renewal(read_baseline("cpu"), RenewRequest("cpu"))
    assert {found.todo.get(cell) for cell in of_flow("sft-full")} == {None if why is None else frozenset({why})}


def test_a_cell_that_is_new_or_lacks_a_field_runs(nox: Nox) -> None:
    """And one that does not exist any more makes the baseline out of date."""
    old = read_baseline("cpu")
    new, lacking, stays = (*today(),)[:3]
    older = dataclasses.replace(old.observations[lacking], lacks=("Training.loss",))
    seen = {cell: each for cell, each in old.observations.items() if cell != new} | {lacking: older}
    found = renewal(dataclasses.replace(old, observations=seen), RenewRequest("cpu"))
    assert found.todo == {new: {Reason.NEW}, lacking: {Reason.FIELDS}}
    assert stays in found.current
    strange = dataclasses.replace(old.observations[stays], cell=f"{OLD}/gone[qwen2-full-gc]@cpu")
    found = renewal(
        dataclasses.replace(old, observations={**old.observations, strange.cell: strange}), RenewRequest("cpu")
    )
    assert (found.gone, found.up_to_date, list(found.todo)) == ((strange.cell,), False, [])


def test_a_baseline_is_measured_in_its_own_tier_and_flows(nox: Nox) -> None:
    """On its device, with time for cells that wait for a core."""
    old = read_baseline("cpu")
    asked = run_request(old, RenewRequest("cpu", jobs=2))
    assert (asked.asked, asked.jobs, asked.python) == (AskedCells(flows=FLOWS), 2, "3.11")
    assert (asked.options.tier, asked.options.device, asked.options.limit) == ("full", "cpu", renew.LIMIT_S)
    whole = {cell: deep(seen) for cell, seen in old.observations.items() if seen.flow == "sft-full"}
    in_depth = {cell: seen for cell, seen in whole.items() if (seen.flow, seen.variant) in DEEP_CELLS}
    (old.path / "observations.jsonl.gz").unlink()
    (old.path / "observations.jsonl").write_text("".join(f"{to_json(seen)}\n" for seen in in_depth.values()))
    assert run_request(read_baseline("cpu"), RenewRequest("cpu")).options.tier == "deep-only"


def test_a_baseline_of_a_flow_is_removed_when_the_whole_one_has_its_cells(nox: Nox) -> None:
    """Only then: one with another cell, of another tier or of all flows stays."""
    kept("cpu-full", of_flow("sft-full"), ["sft-full"])
    kept("all", list(today()))
    provenance = places().baselines / "all" / "provenance.json"
    provenance.write_text(json.dumps({**json.loads(provenance.read_text()), "flows": []}))
    kept("larger", list(today()))
    path = places().baselines / "larger" / "observations.jsonl"
    path.write_text(to_json(dataclasses.replace(b.healthy(), cell=f"{OLD}/other[qwen2-full-gc]@cpu")) + "\n")
    assert renew.remove_absorbed(places().baselines / "cpu") == ("cpu-full",)
    assert sorted(found.name for found in places().baselines.iterdir()) == ["all", "cpu", "larger"]


def test_in_the_background_is_a_process_that_outlives_this_one(
    nox: Nox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same command, with its output in a file beside the runs."""
    started: list[tuple[list[str], dict[str, Any]]] = []

    class Process:
        pid = 17

    monkeypatch.setattr(renew.subprocess, "Popen", lambda words, **how: started.append((words, how)) or Process())
    assert renew.in_background(RenewRequest("cpu", stacks=("trl0.22", "peft*"), jobs=2)) == ExitCode.HEALTHY
    [(words, how)] = started
    assert words[1:5] == ["-m", "finetune_compat", "renew", "cpu"]
    assert words[5:] == ["--stacks", "trl0.22,peft*", "--jobs", "2", "--out", str(places().runs)]
    assert how["start_new_session"] is True
    log = places().runs / "renew-cpu.log"
    assert (how["stdout"].name, capsys.readouterr().out) == (str(log), f"started as process 17; output: {log}\n")


@pytest.mark.parametrize("do", [renew.renew, list_only, renew.in_background])
def test_an_unknown_baseline_is_one_message(nox: Nox, do: Callable[[RenewRequest], int]) -> None:
    """With those that there are."""
    with pytest.raises(CompatError) as raised:
        do(RenewRequest("h200"))
    assert str(raised.value) == (
        "reports/baseline: there is no baseline 'h200'\n"
        "There are: cpu. The first is made by compat run and compat keep."
    )


def test_two_renewals_wait_for_each_other(nox: Nox, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would make the same environments."""
    from finetune_compat.machine.files import locked_file

    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if "waits" in line:
            first.__exit__(None, None, None)

    monkeypatch.setattr(renew, "say", say)
    first = locked_file(places().runs / "renew.lock")
    first.__enter__()
    assert renew.renew(RenewRequest("cpu")) == ExitCode.HEALTHY
    assert said[0] == "another renewal is running; this one waits for it"
    assert "nothing to renew" in said[1]


@pytest.mark.parametrize(
    ("words", "called"),
    [
        ([], "renew"),
        (["--list"], "list_only"),
        (["--dry-run"], "list_only"),
        (["--background"], "in_background"),
    ],
)
def test_the_command_line_asks_for_one_of_three(monkeypatch: pytest.MonkeyPatch, words: list[str], called: str) -> None:
    """With the baseline, the stacks and how many at once."""
    asked: list[tuple[str, RenewRequest]] = []
    for name in ("renew", "list_only", "in_background"):
        monkeypatch.setattr(renew, name, lambda request, name=name: asked.append((name, request)) or ExitCode.UNHEALTHY)
    with pytest.raises(SystemExit) as ended:
        cli.main(["renew", "cpu-deep", "--stacks", "trl0.22, peft*", "-j", "2", *words])
    assert asked == [(called, RenewRequest("cpu-deep", ("trl0.22", "peft*"), 2))]
    assert ended.value.code == ExitCode.UNHEALTHY
