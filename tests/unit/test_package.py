"""What `import finetune_compat` offers, and what it does not import."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from types import ModuleType

import finetune_compat
import finetune_compat.cell
import pytest
from finetune_compat.machine.places import PACKAGE

ROOT = PACKAGE.parents[1]

STACK = "{'torch', 'transformers', 'peft', 'trl', 'accelerate', 'datasets'}"


def loaded(statement: str) -> str:
    """Return the packages of a stack, and pydantic, that a fresh Python has loaded after `statement`."""
    code = f"import sys; {statement}; print(sorted(({STACK} | {{'pydantic'}}) & set(sys.modules)))"
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    "statement",
    [
        "import finetune_compat",
        "import finetune_compat.cell.fixtures",
        "import finetune_compat.checks.guard_checks",
        "import finetune_compat.contract.errors",
    ],
)
def test_nothing_of_a_stack_is_loaded_before_it_is_requested(statement: str) -> None:
    """Neither the package loads it nor the pytest plugin, which every pytest run of the environment loads."""
    assert loaded(statement) == "[]\n"


def test_the_guard_is_imported_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name resolves to the class in the cell side's module."""
    stand_in = ModuleType("finetune_compat.cell.guard")  # the real module needs Transformers
    vars(stand_in)["TrainingGuard"] = "the guard"
    monkeypatch.setitem(sys.modules, stand_in.__name__, stand_in)
    monkeypatch.setattr(finetune_compat.cell, "guard", stand_in, raising=False)
    assert finetune_compat.TrainingGuard == "the guard"


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As in any module: `hasattr` and pickle rely on it."""
    with pytest.raises(AttributeError, match="module 'finetune_compat' has no attribute 'TrainingGard'"):
        _ = finetune_compat.TrainingGard
    assert not hasattr(finetune_compat, "__path_of_the_guard__")


def test_every_public_name_is_listed() -> None:
    """A star import needs every name; without a stack only the version is there."""
    assert set(finetune_compat.__all__) == {"TrainingGuard", "TrainingStopped", "__version__", "evaluation_responds"}


def test_its_types_are_published() -> None:
    """Without `py.typed` a type checker ignores the annotations of an installed package."""
    told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "Typing :: Typed" in told["project"]["classifiers"]
    # The wheel contains every file of these directories that git does not ignore.
    assert told["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["harness/finetune_compat"]
    assert (PACKAGE / "py.typed").is_file()


@pytest.mark.parametrize("command", ["run", "gate"])
def test_help_states_what_was_not_measured_on_a_gpu(command: str) -> None:
    """The help agrees with the README and the noxfile."""
    asked = [sys.executable, "-m", "finetune_compat", command, "--help"]
    shown = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    words = " ".join(re.sub(r"[│╭╮╰╯─|]", " ", shown).split())
    assert "cpu, cuda or auto. Not yet measured on a GPU" in words


@pytest.mark.parametrize("file", ["README.md", "docs/gpu.md", "noxfile.py"])
def test_a_file_that_offers_a_gpu_states_that_none_was_measured(file: str) -> None:
    """The sentence must be there as long as no committed baseline is from a GPU, and must go afterwards."""
    text = " ".join((ROOT / file).read_text(encoding="utf-8").split())
    kept = [json.loads(path.read_text()) for path in (ROOT / "reports" / "baseline").glob("*/provenance.json")]
    measured = any(not device.startswith("cpu") for baseline in kept for device in baseline["devices"])
    assert kept and "--device c" in text
    assert ("Not yet measured on a GPU" in text) is not measured


def test_the_plugin_is_published_under_its_modules_name() -> None:
    """Then naming the module with -p loads one plugin, not two."""
    published = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"][
        "pytest11"
    ]
    assert published == {"finetune_compat.cell.fixtures": "finetune_compat.cell.fixtures"}
