"""What a cell stores, and why it stores nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from builders import NF4
from finetune_compat.cell import storing
from finetune_compat.checks import Outcome, Symptom, Verdict
from finetune_compat.contract.plan import PlannedCell
from finetune_compat.contract.recipe import Recipe
from finetune_compat.machine.wheel_records import digest
from finetune_compat.store import stored_files
from store_builders import planned, recipe_of, seen, store


def stored_by(tmp_path: Path, *, recipe: Recipe | None = None, root: Path | None = None) -> str:
    """Let a cell store an observation; return the reason if it did not."""
    found = seen()
    cell = PlannedCell("sft-peft-config", NF4, (), recipe=recipe or recipe_of(found))
    plan = replace(planned(tmp_path, cell), store=str(root or store().root), modules=("finetune_compat.cell.runner",))
    storing.keep(plan, cell, found, Verdict(found.cell, Outcome.PASS, "", Symptom.FALLS), 0.25)
    return plan.unkept_file.read_text() if plan.unkept_file.exists() else ""


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Replace the modules that are loaded in the cell's process."""
    loaded: dict[str, object] = {
        "finetune_compat": 1,
        "finetune_compat.cell.runner": 1,
        "finetune_compat.checks.judge": 1,
        "os": 1,
    }
    monkeypatch.setattr(storing, "sys", SimpleNamespace(modules=loaded))
    return loaded


def test_a_cell_is_stored_if_it_agrees_with_its_recipe(tmp_path: Path, modules: dict[str, object]) -> None:
    """Its outcome and its CPU seconds are stored too."""
    assert stored_by(tmp_path) == ""
    assert store().get(recipe_of(seen()).address) == seen()
    past = store().history()[seen().cell]
    assert (past.outcome, past.cpu_s) == ("pass", 0.25)


def test_with_a_module_outside_of_the_recipe_nothing_is_stored(tmp_path: Path, modules: dict[str, object]) -> None:
    """The module may have changed the result, and the address would not show it."""
    modules["finetune_compat.cell.secret"] = 1
    assert stored_by(tmp_path) == (
        f"{seen().cell}: modules were loaded that the store address does not cover: finetune_compat.cell.secret\n"
    )
    assert stored_files.names(store().root) == {}


def test_in_another_environment_nothing_is_stored(tmp_path: Path, modules: dict[str, object]) -> None:
    """The host expected another torch."""
    said = stored_by(tmp_path, recipe=recipe_of(seen(), torch="2.14.0"))
    assert said == f"{seen().cell}: torch {seen().stack.resolved['torch']}, expected 2.14.0\n"
    assert stored_files.names(store().root) == {}


def test_with_another_package_next_to_the_lock_nothing_is_stored(tmp_path: Path, modules: dict[str, object]) -> None:
    """The package has another version than the host read, or is missing; unchanged packages are fine."""
    own = f"pytest {pytest.__version__}"
    said = stored_by(tmp_path, recipe=recipe_of(seen(), beside=(own, "pytest 0.1", "triton-of-nobody 3.7.0")))
    other = "pytest 0.1, triton-of-nobody 3.7.0"
    assert said == f"{seen().cell}: packages outside the lock are not those that the host found: {other}\n"
    assert stored_files.names(store().root) == {}
    stored_by(tmp_path, recipe=recipe_of(seen(), beside=(own,)))
    assert store().history()[seen().cell].outcome == "pass"


@pytest.mark.parametrize("change", ["edited", "deleted", "added", None])
@pytest.mark.parametrize("before", [True, False])
def test_with_an_edited_environment_nothing_is_stored(
    tmp_path: Path, modules: dict[str, object], monkeypatch: pytest.MonkeyPatch, change: str | None, before: bool
) -> None:
    """The host compared the files before the first cell. They may change while cells run, and be restored later."""
    site = tmp_path / "site-packages"
    (site / "peft-0.21.2.dist-info").mkdir(parents=True)
    for name in ("peft.py", "other.py"):
        (site / name).write_text("whole")
    sha256 = digest(site / "peft.py")
    rows = [f"{name},sha256={sha256},5" for name in ("peft.py", "other.py")]
    (site / "peft-0.21.2.dist-info" / "RECORD").write_text("\n".join(rows))
    modules |= {"peft": SimpleNamespace(__file__=f"{site}/peft.py"), "elsewhere": SimpleNamespace(__file__="/x.py")}
    monkeypatch.setattr(storing.sysconfig, "get_paths", lambda: {"purelib": str(site)})
    storing._recorded.cache_clear()
    if before:
        assert stored_by(tmp_path) == ""
    (site / "other.py").write_text("of no loaded module")
    match change:
        case "edited":
            (site / "peft.py").write_text("WHOLE")
        case "deleted":
            (site / "peft.py").unlink()
        case "added":
            (site / "peft.py").unlink()
            (site / "peft").mkdir()
            (site / "peft" / "__init__.py").touch()
            modules["peft"] = SimpleNamespace(__file__=f"{site}/peft/__init__.py")
        case _:
            pass
    name = "peft/__init__.py" if change == "added" else "peft.py"
    said = stored_by(tmp_path)
    assert said == ("" if change is None else f"{seen().cell}: files are not those of their wheels: {name}\n")


def test_a_store_that_cannot_be_written_to_costs_no_observation(tmp_path: Path, modules: dict[str, object]) -> None:
    """A message is printed, and the run has the observation."""
    (tmp_path / "file").write_text("")
    said = stored_by(tmp_path, root=tmp_path / "file" / "store")
    assert said == f"{seen().cell}: {tmp_path}/file/store cannot be written to: Not a directory\n"
