"""Every release saves and every newer one loads, with stacks that answer in place of real ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from adapters import write
from finetune_compat.contract.errors import StackFailed
from finetune_compat.evidence import adapter_corpus
from finetune_compat.evidence.adapter_corpus import main, measured, stacks_by_peft
from finetune_compat.evidence.adapter_record import Outcome, read_corpus
from finetune_compat.stacks.matrix import read_matrix
from packaging.version import Version

FACTS = {"error": "", "warned": ["Retrain it."], "moved": 4.0, "off": 0.0, "off_base": 4.0, "drift": 0.0}
PREDICTED = {
    "versions": {"peft": "0.21.2", "transformers": "5.20.0", "torch": "2.13.0"},
    "base": "LlamaForCausalLM",
    "tied": False,
    "error": "",
    "untold": "",
    "fitting": 8,
    "missing": [],
    "unexpected": [],
    "mismatched": [],
    "unknown_options": [],
}


def stack(name: str) -> Any:
    """An environment that is only named."""
    return SimpleNamespace(name=name)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Mapping[str, Any]]]:
    """Stacks that save one LoRA and cannot save another method, and load everything; the newest loses what the oldest
    saved. Returns what they were asked.
    """
    questions: list[tuple[str, Mapping[str, Any]]] = []

    def answer(stack: Any, module: str, request: Mapping[str, Any]) -> dict[str, Any]:
        questions.append((stack.name, request))
        versions = {"peft": stack.name, "transformers": "5.20.0"}
        if "into" in request:
            into = Path(request["into"], "lora")
            into.parent.mkdir()
            write(into)
            saved = {"LORA": {"directory": "lora", "error": ""}, "POLY": {"directory": "poly", "error": "ValueError"}}
            return {"versions": versions, "saved": saved}
        lost = {"off": 4.0, "off_base": 0.0}
        return {
            "versions": versions,
            "found": {
                key: {**FACTS, **(lost if key == "0.9.0 LORA" and stack.name == "new" else {}), "predicted": PREDICTED}
                for key in request.get("adapters", {})
            },
        }

    monkeypatch.setattr(adapter_corpus, "ask", answer)
    return questions


def test_each_release_loads_its_own_adapters_and_those_of_all_older_ones(
    asked: list[tuple[str, Mapping[str, Any]]], tmp_path: Path
) -> None:
    """The oldest makes the base. What could not be saved is recorded and not loaded."""
    found = measured({"0.9.0": stack("old"), "0.21.2": stack("new")}, tmp_path)
    assert asked[0][0] == "old" and asked[0][1]["make"]
    assert [(load.saved_by, load.loaded_by, load.outcome) for load in found.loads] == [
        ("0.9.0", "0.9.0", Outcome.LOADS),
        ("0.9.0", "0.21.2", Outcome.NOTHING),
        ("0.21.2", "0.21.2", Outcome.LOADS),
    ]
    assert [(save.method, save.peft, save.error) for save in found.saves] == [
        ("LORA", "0.9.0", ""),
        ("POLY", "0.9.0", "ValueError"),
        ("LORA", "0.21.2", ""),
        ("POLY", "0.21.2", "ValueError"),
    ]
    assert {load.foretold for load in found.loads} == {()}
    # Warnings of a healthy load say nothing about it.
    assert [load.said for load in found.loads] == ["", "Retrain it.", ""]


def test_a_stack_is_chosen_for_each_release_of_peft() -> None:
    """Oldest first; the one named after the release, if there is one."""
    found = stacks_by_peft(read_matrix())
    assert list(found) == sorted(found, key=Version)
    assert {found[release] for release in found if release.startswith("0.21")} == {"peft0.21"}
    assert all(
        not name.startswith("peft") or release.startswith(name.removeprefix("peft")) for release, name in found.items()
    )


def test_the_record_and_the_page_are_written_together(
    asked: list[tuple[str, Mapping[str, Any]]], tmp_path: Path, in_places: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing if a stack fails."""
    matrix = read_matrix()
    monkeypatch.setattr(adapter_corpus, "read_matrix", lambda: matrix)
    monkeypatch.setattr(adapter_corpus, "stack_python", lambda matrix, name: stack(name))
    monkeypatch.setattr(adapter_corpus, "stacks_by_peft", lambda matrix: {"0.21.2": "peft0.21"})
    in_places(checkout=tmp_path)
    assert main() == 0
    corpus = read_corpus(tmp_path / "reports" / "adapters" / "corpus.json")
    assert [load.method for load in corpus.loads] == ["LORA"]
    assert (tmp_path / "reports" / "adapters" / "adapters.md").exists()


def test_a_stack_that_fails_leaves_everything_as_it_is(
    tmp_path: Path, in_places: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its error and its exit code."""
    failed = StackFailed("ended", where="peft0.21", meaning="A library fails.", todo="Run its cells.")

    def fail(*args: Any) -> Any:
        raise failed

    monkeypatch.setattr(adapter_corpus, "stack_python", fail)
    in_places(checkout=tmp_path)
    assert main() == failed.exit_code
    assert "Run its cells." in capsys.readouterr().err
    assert not (tmp_path / "reports" / "adapters").exists()
