"""Loading an adapter in a stack: the question, the use of the answer, and what is refused before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from adapters import CONFIG, PREFIX, Q0, write
from finetune_compat.census.families import families
from finetune_compat.contract.errors import AdapterError, ExitCode, UnknownName
from finetune_compat.inspect import loading
from finetune_compat.inspect.loading import Loading, Mismatch, load_under
from finetune_compat.inspect.saved import read_adapter
from finetune_compat.stacks.ask import StackPython
from finetune_compat.stacks.environments import Environment
from finetune_compat.stacks.locks import Lock

VERSIONS = {"peft": "0.17.1", "transformers": "4.56.0", "torch": "2.13.0+cpu"}
ANSWER: dict[str, Any] = {
    "versions": VERSIONS,
    "base": "Qwen2ForCausalLM",
    "tied": True,
    "error": "",
    "untold": "RuntimeError: no values",
    "fitting": 6,
    "missing": ["m"],
    "unexpected": ["u"],
    "mismatched": [["x", [2, 6], [4, 6]]],
    "unknown_options": ["use_dora"],
}
STACK = StackPython(
    "trl0.22-py311", Path("/python"), Lock(Path("l.txt"), "", {}, {}), Environment("2.13.0", False, True)
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A stack that answers; returns what it was asked."""
    questions: list[Any] = []

    def answer(stack: StackPython, module: str, request: dict[str, Any]) -> dict[str, Any]:
        questions.append((stack, module, request))
        return ANSWER

    monkeypatch.setattr(loading, "stack_python", lambda matrix, name: STACK)
    monkeypatch.setattr(loading, "ask", answer)
    return questions


@pytest.mark.parametrize("given", ["base", "base/config.json"])
def test_a_stack_gets_only_names_and_shapes(tmp_path: Path, asked: list[Any], given: str) -> None:
    """The base is a configuration, given as a file or as the directory of a saved model."""
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text('{"model_type": "qwen2"}')
    seen = load_under(read_adapter(write(tmp_path / "a")), str(tmp_path / given), "trl0.22")
    ((stack, module, request),) = asked
    assert (stack, module) == (STACK, "finetune_compat.cell.adapter_loading")
    assert (request["base"], request["adapter"]) == ({"model_type": "qwen2"}, CONFIG)
    assert len(request["tensors"]) == 8
    assert request["tensors"][f"{PREFIX}{Q0}.lora_A.weight"] == ["F32", (2, 6)]
    assert seen == Loading(
        stack="trl0.22-py311",
        versions=VERSIONS,
        base="Qwen2ForCausalLM",
        tied=True,
        error="",
        untold="RuntimeError: no values",
        fitting=6,
        missing=("m",),
        unexpected=("u",),
        mismatched=(Mismatch("x", (2, 6), (4, 6)),),
        unknown_options=("use_dora",),
    )


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "there is no such base"),
        ("{", "is not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ('"qwen2"', "must hold a JSON object"),
        ("[" * 100_000, "is nested more than 100 levels deep"),
    ],
)
def test_an_invalid_base_is_refused_before_a_stack_starts(
    tmp_path: Path, asked: list[Any], content: str | None, problem: str
) -> None:
    """This includes the name of a model on a hub."""
    path = tmp_path / "config.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(AdapterError) as caught:
        load_under(read_adapter(write(tmp_path / "a")), str(path), "trl0.22")
    assert (caught.value.exit_code, asked) == (ExitCode.BAD_INPUT, [])
    assert str(caught.value) == (
        f"{path}: {problem}\n"
        "The base is built from its config.json alone; its weights are not needed.\n"
        "Give the directory of a saved model, its config.json, or a family (compat census --list)."
    )


def test_a_family_is_a_base(tmp_path: Path, asked: list[Any]) -> None:
    """The config of the family is part of this project."""
    load_under(read_adapter(write(tmp_path / "a")), "qwen2-vl-7b", "trl0.22")
    assert asked[0][2]["base"]["architectures"] == ["Qwen2VLForConditionalGeneration"]


def test_a_misspelt_family_is_answered_with_names(tmp_path: Path, asked: list[Any]) -> None:
    """No stack is started."""
    with pytest.raises(UnknownName) as raised:
        load_under(read_adapter(write(tmp_path / "a")), "qwen2-vl", "trl0.22")
    assert asked == []
    assert str(raised.value) == (
        "there is no family 'qwen2-vl'\n"
        f"Did you mean qwen2-vl-7b? The families are: {', '.join(family.name for family in families())}.\n"
        "Or pass a config.json: any model that the stack's Transformers knows can be counted."
    )


def test_an_unknown_stack_is_the_matrixs_own_message(tmp_path: Path) -> None:
    """No environment is made."""
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UnknownName) as raised:
        load_under(read_adapter(write(tmp_path / "a")), str(tmp_path), "trl0.2222")
    assert str(raised.value) == (
        "matrices/stacks.toml: there is no stack 'trl0.2222'\nNames that look like it: trl0.22, trl0.22.0, trl0.29.\n"
        "`compat stacks` lists all of them."
    )
