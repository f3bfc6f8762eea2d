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
from builders import UNLISTED, VERSIONS
from finetune_compat.contract import catalog
from finetune_compat.contract.catalog import CATALOG, Objective, flow_named
from finetune_compat.contract.errors import InstallError
from finetune_compat.contract.plan import APART, Plan, apart
from finetune_compat.contract.records import DeviceKind
from finetune_compat.machine.places import PACKAGE
from finetune_compat.run import stack_run
from finetune_compat.stacks.locks import Lock
from finetune_compat.store import directories
from finetune_compat.store.addresses import Installed, addressed, addresses, installed, recipes
from finetune_compat.store.sources import ENTRANCES, Sources
from store_builders import planned

ROOT = PACKAGE.parents[1]

ENVIRONMENT = Installed("3.11.7", "2.13.0+cpu", triton=False)
LOCK = Lock(
    Path("trl0.22-py311.txt"), "0" * 64, {"trl": "0.22.2", "typing-extensions": "4.15.0", "torchvision": "1"}, {}
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of this project's modules, to be changed."""
    shutil.copytree(ROOT / "harness", tmp_path / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def whole_plan() -> Plan:
    """A plan of every cell of a CPU."""
    return planned("/runs/one", *stack_run.planned_cells(UNLISTED, DeviceKind.CPU, VERSIONS))


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
    """An objective can be added or changed without running unrelated cells again."""
    file = checkout.joinpath("harness", *objective.module.split(".")).with_suffix(".py")
    assert moved(checkout, lambda: edit(file)) == flows_of(objective)


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


def test_weights_are_read_once(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gigabytes take a minute: an unchanged file keeps its digest."""
    model = tmp_path / "weights"
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"1")
    first = directories.digest(model, tmp_path)
    monkeypatch.setattr(directories, "_sha256", lambda path: pytest.fail(f"{path} was read again"))
    assert directories.digest(model, tmp_path) == first
    monkeypatch.undo()
    (tmp_path / directories.MEMORY).write_text("[")
    assert directories.digest(model, tmp_path) == first


def test_a_hub_id_has_no_recipe() -> None:
    """A hub id does not contain its commit."""
    assert recipes(replace(whole_plan(), model="Qwen/Qwen2.5-7B"), ENVIRONMENT) == {}


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
    having = flows_of(Objective.SFT) | flows_of(Objective.PREFERENCE)
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
    code += "print(*(name for name in sys.modules if name.partition('.')[0] == 'harness'))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {name for name in loaded.stdout.split() if name not in known and not apart(name)} == set()


def test_excluded_modules_exist() -> None:
    """A name of a removed module would hide a new module of that name."""
    for name in APART:
        path = ROOT.joinpath("harness", *name.split("."))
        assert path.with_suffix(".py").is_file() or path.is_dir(), name
    assert not any(apart(name) for name in ENTRANCES)
    assert not apart("finetune_compat.catalogue")


# ---------------------------------------------------------------------------------------------------- what is installed


def environment(root: Path, *names: str, config: str = "version_info = 3.11.7\n") -> Path:
    """A virtual environment with these in its site-packages."""
    site = root / "lib/python3.11/site-packages"
    site.mkdir(parents=True)
    for name in names:
        (site / name).mkdir()
    (root / "pyvenv.cfg").write_text(f"home = /usr/bin\n{config}")
    return root / "bin" / "python"


@pytest.mark.parametrize("config", ["version_info = 3.11.7\n", "version = 3.11.7\n", "version_info = 3.11.7.final.0\n"])
def test_an_environment_lists_its_packages(tmp_path: Path, config: str) -> None:
    """uv, venv and virtualenv write it in the same way."""
    python = environment(tmp_path, "torch", "torch-2.13.0+cpu.dist-info", "torchvision-1.dist-info", config=config)
    assert installed(python, LOCK) == Installed("3.11.7", "2.13.0+cpu", triton=False)


def test_a_borrowed_torch_counts(tmp_path: Path) -> None:
    """The triton that comes with it counts too."""
    python = environment(tmp_path)
    for name in ("torch-2.14.0.dist-info", "triton"):
        (tmp_path / "lent-torch" / name).mkdir(parents=True)
    assert installed(python, LOCK) == Installed("3.11.7", "2.14.0", triton=True)


def test_packages_that_compute_and_are_not_locked_count(tmp_path: Path) -> None:
    """CUDA packages of a torch build count, also of another version; tools and locked packages do not."""
    locked_and_more = ("trl-0.22.2", "typing_extensions-4.15.0", "torch-2.13.0", "uv-0.9", "nvidia_cublas-13.1.0.3")
    names = [f"{name}.dist-info" for name in (*locked_and_more, "triton-3.7.0")]
    python = environment(tmp_path, "triton", *names)
    found = installed(python, LOCK)
    assert found == Installed("3.11.7", "2.13.0", triton=True, beside=("nvidia-cublas 13.1.0.3", "triton 3.7.0"))
    plan, other = whole_plan(), replace(found, beside=("nvidia-cublas 13.1.0.4", "triton 3.7.0"))
    assert not set(addresses(plan, found).values()) & set(addresses(plan, other).values())


def test_addresses_are_those_of_the_recipes(tmp_path: Path) -> None:
    """The common part of many recipes is calculated once."""
    plan = whole_plan()
    deep = replace(plan, cells=tuple(replace(cell, deep=cell.flow == "sft-full") for cell in plan.cells))
    for each in (plan, deep):
        assert addresses(each, ENVIRONMENT) == {
            cell: recipe.address for cell, recipe in recipes(each, ENVIRONMENT).items()
        }
    assert addresses(replace(plan, model="Qwen/Qwen2.5-7B"), ENVIRONMENT) == {}


def test_a_folder_that_is_no_environment_is_refused(tmp_path: Path) -> None:
    """The message has the remedy."""
    with pytest.raises(InstallError) as raised:
        installed(tmp_path / "bin" / "python", LOCK)
    assert str(raised.value) == (
        f"{tmp_path}: this is not an environment with torch\n"
        "The environment was never made, or its installation was interrupted.\n"
        "Run the stack's session, which makes the environment."
    )


def test_a_plan_has_the_recipes_of_its_cells(tmp_path: Path) -> None:
    """They are in its file."""
    from finetune_compat.contract.plan import read_plan

    plan = whole_plan()
    wanted = recipes(plan, ENVIRONMENT)
    told = addressed(plan, wanted, tmp_path)
    (tmp_path / "plan.json").write_text(told.to_json())
    again = read_plan(tmp_path / "plan.json")
    assert again == told
    assert {plan.id_of(cell): cell.recipe for cell in again.cells} == wanted
    assert set(again.modules) == {name for flow in CATALOG for name in Sources().modules(flow, real=False)}
