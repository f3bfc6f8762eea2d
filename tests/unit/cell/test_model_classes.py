"""A config from elsewhere names a model class, and not any attribute of Transformers. A module stands in for it."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`model_class`, with a Transformers of a model and of what is none. Nothing of it may be called."""
    library: Any = ModuleType("transformers")
    library.PreTrainedModel = type("PreTrainedModel", (), {})
    library.Qwen2ForCausalLM = type("Qwen2ForCausalLM", (library.PreTrainedModel,), {})
    library.Trainer = type("Trainer", (), {"__init__": lambda *_: pytest.fail("it was called")})
    library.pipeline = lambda *_: pytest.fail("it was called")
    monkeypatch.setitem(sys.modules, "transformers", library)
    monkeypatch.delitem(sys.modules, "finetune_compat.cell.model_classes", raising=False)
    yield importlib.import_module("finetune_compat.cell.model_classes").model_class
    sys.modules.pop("finetune_compat.cell.model_classes", None)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["Qwen2ForCausalLM"], "Qwen2ForCausalLM"),
        (["Trainer", "pipeline", "__doc__", "Qwen2ForCausalLM"], "Qwen2ForCausalLM"),
        (["Trainer"], None),
        (["pipeline", "__loader__", "", 5, None, ["Trainer"]], None),
        (None, None),
    ],
)
def test_only_a_model_class_is_one(named: Any, names: Any, found: str | None) -> None:
    made = named(names)
    assert (made and made.__name__) == found
