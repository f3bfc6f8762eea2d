"""Files that run inside a cell, and which changes make which cells run again."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from finetune_compat.contract import catalog
from finetune_compat.contract.catalog import CATALOG, Objective, flow_named
from finetune_compat.contract.plan import APART, Plan, apart
from finetune_compat.machine.places import PACKAGE
from finetune_compat.store.addresses import recipes
from finetune_compat.store.sources import ENTRANCES, Sources
from store_builders import ENVIRONMENT, whole_plan

ROOT = PACKAGE.parents[1]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of this project's modules, to be changed."""
    shutil.copytree(ROOT / "harness", tmp_path / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def moved(checkout: Path, change: Callable[[], object], plan: Plan | None = None) -> set[str]:
    """Return the flows of cells that have another address after `change`."""
    plan = plan or whole_plan()
    before = recipes(plan, ENVIRONMENT, of=Sources(checkout / "harness"))
    change()
    after = recipes(plan, ENVIRONMENT, of=Sources(checkout / "harness"))
    assert before.keys() == after.keys()
    return {cell.flow for cell in plan.cells if before[plan.id_of(cell)].address != after[plan.id_of(cell)].address}


def edit(path: Path) -> None:
    """Append a comment: a changed file is another source."""
    assert path.is_file()
    path.write_text(path.read_text(encoding="utf-8") + "# edited\n", encoding="utf-8")


ALL = {flow.name for flow in CATALOG}


@pytest.mark.parametrize(
    "file",
    [
        "checks/cell_checks.py",
        "checks/codes.py",
        "checks/judge.py",
        "contract/closed_forms.py",
        "report/wording.py",
        "checks/ledger.py",
        "checks/ledger_faults.py",
        "checks/ledger_file.py",
        "contract/errors.py",
        "contract/plan.py",
        "contract/catalog.py",
        "__init__.py",
        "cell/plugin.py",
        "cell/guard.py",
        "cell/fixtures.py",
        "cell/sweep.py",
        "cell/assertions.py",
        "cell/adapter_loading.py",
        "store/stored_files.py",
        "census/terminal.py",
        "cell/stage_table.py",
    ],
)
def test_checks_wording_and_planning_move_no_cell(checkout: Path, file: str) -> None:
    """Cells are judged again and do not run again."""
    assert moved(checkout, lambda: edit(checkout / "harness" / "finetune_compat" / file)) == set()


@pytest.mark.parametrize(
    "file",
    [
        "contract/records.py",
        "machine/cpu.py",
        "cell/__init__.py",
        "cell/runner.py",
        "cell/execution.py",
        "cell/adapt.py",
        "cell/deep.py",
        "cell/instruments/freezes.py",
        "cell/instruments/__init__.py",
    ],
)
def test_a_file_of_every_cell_moves_all_cells(checkout: Path, file: str) -> None:
    """Any change of it counts."""
    assert moved(checkout, lambda: edit(checkout / "harness" / "finetune_compat" / file)) == ALL


@pytest.mark.parametrize("flow", sorted(ALL))
def test_a_flows_file_moves_its_own_cells(checkout: Path, flow: str) -> None:
    """All cells of the flow have another address, and no others."""
    file = checkout.joinpath("harness", *flow_named(flow).module.split(".")).with_suffix(".py")
    assert moved(checkout, lambda: edit(file)) == {flow}


@pytest.mark.parametrize("objective", Objective)
def test_an_objectives_file_moves_the_cells_that_have_it(checkout: Path, objective: Objective) -> None:
    """An objective can be added or changed without running unrelated cells again, also those that take its rows."""
    file = checkout.joinpath("harness", *objective.module.split(".")).with_suffix(".py")
    having = set().union(*map(flows_of, (objective, *TAKING_ROWS_OF.get(objective, ()))))
    assert moved(checkout, lambda: edit(file)) == having


TAKING_ROWS_OF = {
    Objective.PREFERENCE: (Objective.ODDS_RATIO, Objective.CONTRASTIVE),
    Objective.ONLINE: (Objective.LEAVE_ONE_OUT,),
}
"""Objectives whose modules import that of another."""


@pytest.mark.parametrize(
    ("file", "objectives"),
    [
        ("cell/pictures.py", {Objective.SFT}),
        ("cell/instruments/next_token.py", {Objective.SFT, Objective.PLAIN}),
    ],
)
def test_a_file_of_some_objectives_moves_their_cells(checkout: Path, file: str, objectives: set[Objective]) -> None:
    """Labels of text do not matter to a preference."""
    having = set().union(*map(flows_of, objectives))
    assert moved(checkout, lambda: edit(checkout / "harness" / "finetune_compat" / file)) == having


def flows_of(objective: Objective) -> set[str]:
    return {flow.name for flow in CATALOG if flow.objective is objective}


def test_a_module_that_a_flow_begins_to_import_counts(checkout: Path) -> None:
    """The import is found without a list; a name in a string counts too."""
    flow = checkout / "harness/finetune_compat/cell/flows/sft_full.py"
    (checkout / "harness/finetune_compat/cell/extra.py").write_text("X = 1\n")
    flow.write_text(flow.read_text() + 'import importlib\nimportlib.import_module("finetune_compat.cell.extra")\n')
    assert moved(checkout, lambda: edit(checkout / "harness/finetune_compat/cell/extra.py")) == {"sft-full"}


def test_a_file_of_real_weights_moves_their_cells(checkout: Path, tmp_path: Path) -> None:
    """Tiny models never import it."""
    model = tmp_path / "weights"
    model.mkdir()
    (model / "config.json").write_text("{}")
    plan = replace(whole_plan(), model=str(model))
    assert moved(checkout, lambda: edit(checkout / "harness/finetune_compat/cell/real.py"), plan) == ALL
    assert moved(checkout, lambda: edit(checkout / "harness/finetune_compat/cell/real.py")) == set()


def test_other_weights_are_another_address(checkout: Path, tmp_path: Path) -> None:
    """The content of a directory counts, not its name; hidden files are not part of a model."""
    model = tmp_path / "weights"
    model.mkdir()
    (model / "config.json").write_text("{}")
    plan = replace(whole_plan(), model=str(model))
    assert moved(checkout, lambda: (model / ".note").write_text("x"), plan) == set()
    assert moved(checkout, lambda: (model / "model.safetensors").write_bytes(b"1"), plan) == ALL
    assert moved(checkout, lambda: (model / "model.safetensors").write_bytes(b"2"), plan) == ALL


# ------------------------------------------------------------------------------------------------- the catalog's values


def test_an_entitlement_moves_no_cell(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entitlements are opinions."""
    changed = tuple(replace(flow, expects={}, refusal="x", story="", row_labels=(1,)) for flow in CATALOG)
    assert moved(checkout, lambda: monkeypatch.setattr(catalog, "CATALOG", changed)) == set()


@pytest.mark.parametrize("name", ["ROW_WORDS", "BATCH_ROWS", "LEARNING_RATE", "ACCUMULATED_ROWS"])
def test_a_value_a_cell_is_given_moves_all(checkout: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Examples are rows, words and learning rates."""
    other = {} if name == "LEARNING_RATE" else 99
    assert moved(checkout, lambda: monkeypatch.setattr(catalog, name, other)) == ALL


def test_a_value_of_some_objectives_moves_their_cells(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows without completions do not depend on them."""
    having = set().union(*(flows_of(objective) for objective in Objective if objective is not Objective.PLAIN))
    assert moved(checkout, lambda: monkeypatch.setattr(catalog, "COMPLETION_WORDS", 99)) == having


def test_a_models_shape_moves_the_cells_that_have_it(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Llama is in the variants of a few flows."""
    tiny = catalog.MODELS["llama"]
    other = replace(tiny, shape=replace(tiny.shape, hidden_size=96))
    having = {flow.name for flow in CATALOG if any(variant.model == "llama" for variant in flow.variants)}
    assert moved(checkout, lambda: monkeypatch.setitem(catalog.MODELS, "llama", other)) == having
    # The first release with the architecture decides whether the cell exists, not what it computes.
    since = replace(other, since="4.99")
    assert moved(checkout, lambda: monkeypatch.setitem(catalog.MODELS, "llama", since)) == set()


def test_everything_a_cell_takes_from_the_catalog_is_counted() -> None:
    """Each name is counted by value, or is one of these: types, the model's own shape, and functions with a counted
    result.
    """
    found, attributes = set(), set()
    own = Sources()
    for name in own.modules(CATALOG[0], real=True):
        path = ROOT.joinpath("harness", *name.split("."))
        tree = ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "finetune_compat.contract.catalog":
                found |= {alias.name for alias in node.names}
            if isinstance(node, ast.ImportFrom) and node.module == "finetune_compat":
                assert "catalog" not in {alias.name for alias in node.names}
            if isinstance(node, ast.Import):
                assert "finetune_compat.contract.catalog" not in {alias.name for alias in node.names}
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("flow", "self._flow"):
                attributes.add(node.attr)
    uncounted = found - own.constants(CATALOG[0], real=True)
    assert uncounted == {"Flow", "Handicap", "MODELS", "Subject", "flow_named", "lora_of"}
    assert attributes == {"name", "module", "objective", "subject"}


# ------------------------------------------------------------------------------------ nothing that runs is left out


def test_no_measuring_module_imports_a_judging_one() -> None:
    """Otherwise a changed check would have changed an observation; only `plan` does, for what it passes to the
    judge.
    """
    own = Sources()
    for name in sorted({each for flow in CATALOG for each in own.modules(flow, real=True)}):
        path = ROOT.joinpath("harness", *name.split("."))
        text = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
        names = {node.module or "" for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)}
        assert not {
            each
            for each in names
            if each.startswith(("finetune_compat.checks", "finetune_compat.contract.closed_forms"))
        }, name


def test_every_module_of_planning_is_excluded() -> None:
    """Every import of the plugin and of the test around a cell is counted or known to measure nothing."""
    own = Sources()
    known = own.modules(CATALOG[0], real=True)
    code = "import sys, finetune_compat.cell.plugin, finetune_compat.cell.storing, finetune_compat.cell.runner\n"
    code += "print(*(name for name in sys.modules if name.partition('.')[0] == 'finetune_compat'))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {name for name in loaded.stdout.split() if name not in known and not apart(name)} == set()


def test_excluded_modules_exist() -> None:
    """A name of a removed module would hide a new module of that name."""
    for name in APART:
        path = ROOT.joinpath("harness", *name.split("."))
        assert path.with_suffix(".py").is_file() or path.is_dir(), name
    assert not any(apart(name) for name in ENTRANCES)
    assert not apart("finetune_compat.catalogue")
