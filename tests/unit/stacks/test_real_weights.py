"""Values of `--model`: a directory with a model, or a possible hub id. Everything else is one message."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from finetune_compat.contract.catalog import MODELS
from finetune_compat.contract.errors import CompatError, ExitCode
from finetune_compat.stacks import real_weights
from hypothesis import given
from hypothesis import strategies as st


def directory(parent: Path, config: str) -> Path:
    """A directory with this text as its config."""
    made = parent / "mine"
    made.mkdir()
    (made / "config.json").write_text(config, encoding="utf-8")
    for name in ("model-00001-of-00002.safetensors", "tokenizer.json"):
        (made / name).touch()
    return made


def refused(asked: Path | str) -> str:
    """Return the message, which is always bad input."""
    with pytest.raises(CompatError) as raised:
        real_weights.checked(str(asked))
    assert raised.value.exit_code is ExitCode.BAD_INPUT
    return str(raised.value)


def test_a_directory_with_a_model_is_known_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells run from the checkout; nothing of such a model comes from the hub."""
    made = directory(tmp_path, '{"model_type": "llama"}')
    monkeypatch.chdir(tmp_path)
    assert real_weights.checked("mine") == str(made)
    assert not real_weights.from_hub(real_weights.checked("mine"))


@pytest.mark.parametrize("asked", ["gpt2", "Qwen/Qwen2.5-7B", "org_1/a.b-c_d"])
def test_a_possible_hub_id_is_accepted(asked: str) -> None:
    """Only the hub knows whether the model exists."""
    assert real_weights.checked(asked) == asked
    assert real_weights.from_hub(asked)


@pytest.mark.parametrize("asked", ["", "./mine", "/no/where", "a/b/c", "org/", "-x", "a b", "https://hub/org/name"])
def test_what_is_neither_is_bad_input(asked: str) -> None:
    """A missing path is neither, because a hub id has no leading dot or slash."""
    assert refused(asked) == (
        f"--model: {asked!r} is neither a directory nor a hub id\n"
        "The directory does not exist, or the value is a single file of a model.\n"
        "Name the directory that save_pretrained wrote, or a hub id (example: Qwen/Qwen2.5-7B)."
    )


def test_an_existing_file_is_no_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`model.safetensors` would be a valid name on the hub."""
    (tmp_path / "model.safetensors").touch()
    monkeypatch.chdir(tmp_path)
    assert refused("model.safetensors") == (
        "--model: 'model.safetensors' is neither a directory nor a hub id\n"
        "The directory does not exist, or the value is a single file of a model.\n"
        "Name the directory that save_pretrained wrote, or a hub id (example: Qwen/Qwen2.5-7B)."
    )


def test_a_directory_without_a_config_is_bad_input(tmp_path: Path) -> None:
    """It may have weights of an unknown model."""
    assert refused(tmp_path) == (
        f"{tmp_path}/config.json: cannot be read: No such file or directory\n"
        "Check the path. If a folder was named, this file must be in it."
    )


def test_a_truncated_config_is_bad_input(tmp_path: Path) -> None:
    """The message has the position."""
    made = directory(tmp_path, '{"model_type": ')
    assert refused(made) == (
        f"{made}/config.json: not JSON: Expecting value: line 1 column 16 (char 15)\n"
        "It was cut off, or edited by hand.\n"
        "Take the file from the model's repository again."
    )


def test_a_config_that_is_no_object_is_bad_input(tmp_path: Path) -> None:
    """A list has no model_type."""
    made = directory(tmp_path, "[]")
    assert refused(made) == (
        f"{made}/config.json: not a JSON object but list\nTake the file from the model's repository again."
    )


@pytest.mark.parametrize("config", ["{}", '{"model_type": null}', '{"peft_type": "LORA"}'])
def test_a_config_of_something_else_is_bad_input(tmp_path: Path, config: str) -> None:
    """An example is the config of an adapter."""
    made = directory(tmp_path, config)
    assert refused(made) == (
        f"{made}/config.json: not a model's config: it has no model_type\n"
        "The directory has no base model, but for example an adapter.\n"
        "Pass the directory of the base model to --model."
    )


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("model-00001-of-00002.safetensors", "holds no weights: none of *.safetensors, *.bin"),
        ("tokenizer.json", "holds no tokenizer: none of tokenizer*.json, *.model, vocab.*"),
    ],
)
def test_a_directory_without_weights_or_tokenizer_is_bad_input(tmp_path: Path, missing: str, said: str) -> None:
    """In a cell it would be an ImportError about protobuf, and would look like a failure of the release."""
    made = directory(tmp_path, '{"model_type": "llama"}')
    (made / missing).unlink()
    assert refused(made) == (
        f"{made}: {said}\n"
        "Cells load the model and its tokenizer from the same directory.\n"
        f"Write the {said.split()[2].rstrip(':')} there with save_pretrained, or name the directory that has both."
    )


def test_weights_that_are_stored_quantized_are_bad_input(tmp_path: Path) -> None:
    """`full` would not be full, and int8 not int8."""
    made = directory(tmp_path, '{"model_type": "llama", "quantization_config": {"quant_method": "awq"}}')
    assert refused(made) == (
        f"{made}/config.json: the model is stored quantized\n"
        "The flows quantize the weights themselves, or train them unquantized.\n"
        "Pass the original, unquantized model to --model."
    )


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt2", "gpt2"),
        ("Qwen/Qwen2.5-7B", "Qwen2.5-7B"),
        ("/data/My Model (new)", "My-Model--new-"),
        ("/data/qwen2", "qwen2-weights"),
        ("/", "-weights"),
    ],
)
def test_cells_have_the_last_part_of_the_name(model: str, name: str) -> None:
    """Its characters are safe in cell ids, and it is never the name of a tiny model."""
    assert real_weights.cell_name(model) == name


@given(st.text())
def test_any_name_is_safe_in_a_cells_id(model: str) -> None:
    """The name has no slash, bracket, blank or line break, and is no tiny model's."""
    name = real_weights.cell_name(model)
    assert re.fullmatch(r"[A-Za-z0-9._-]+", name)
    assert name not in MODELS
