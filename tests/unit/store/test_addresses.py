"""Recipes and addresses of a plan's cells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from finetune_compat.contract.catalog import CATALOG
from finetune_compat.contract.errors import InstallError
from finetune_compat.stacks.locks import Lock
from finetune_compat.store.addresses import Installed, addressed, addresses, installed, recipes
from finetune_compat.store.sources import Sources
from store_builders import ENVIRONMENT, whole_plan

LOCK = Lock(
    Path("trl0.22-py311.txt"), "0" * 64, {"trl": "0.22.2", "typing-extensions": "4.15.0", "torchvision": "1"}, {}
)


def test_a_hub_id_has_no_recipe() -> None:
    """A hub id does not contain its commit."""
    assert recipes(replace(whole_plan(), model="Qwen/Qwen2.5-7B"), ENVIRONMENT) == {}


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
