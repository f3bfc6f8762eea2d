"""The directory of an adapter: its contents, and the messages for directories that are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from adapters import PREFIX, modules, raw, tensors, values, write
from finetune_compat.contract.errors import AdapterError, ExitCode
from finetune_compat.inspect.saved import read_adapter


def refused(directory: Path) -> str:
    """Return the message."""
    with pytest.raises(AdapterError) as caught:
        read_adapter(directory)
    assert caught.value.exit_code is ExitCode.BAD_INPUT
    return str(caught.value)


def test_an_adapter_is_its_configuration_its_tensors_and_its_modules(tmp_path: Path) -> None:
    """The modules are in the order of their layers."""
    saved = read_adapter(write(tmp_path / "a"))
    assert saved.config.r == 2 and len(saved.weights.tensors) == 8
    assert [layer.module for layer in saved.layers] == modules()
    assert saved.config_raw["lora_alpha"] == 4


def test_a_class_sums_up_its_tensors(tmp_path: Path) -> None:
    """Factors come first, then tensors saved whole; extremes and norm cover the whole class."""
    whole = {
        f"{PREFIX}score.weight": np.array([[3, -4]], dtype=np.float32),
        f"{PREFIX}model.norm.weight": np.zeros(3, dtype=np.float16),
        f"{PREFIX}model.layers.0.norm.weight": np.full(3, 2, dtype=np.float32),
    }
    classes = read_adapter(write(tmp_path / "a", {**tensors(), **whole})).classes
    assert [facts.name for facts in classes] == ["lora_A", "lora_B", "head", "norm"]
    head, norm = classes[2:]
    assert (head.tensors, head.elements, head.dtypes, head.all_zero) == (1, 2, ("F32",), 0)
    assert head.values is not None and (head.values.minimum, head.values.maximum, head.values.norm) == (-4, 3, 5)
    assert (norm.tensors, norm.elements, norm.dtypes, norm.all_zero) == (2, 6, ("F16", "F32"), 1)
    assert norm.values is not None and (norm.values.zero, norm.values.maximum) == (3, 2)


def test_a_class_with_a_tensor_that_is_not_read_has_no_values(tmp_path: Path) -> None:
    """The minimum of a part of the values would be wrong."""
    directory = write(tmp_path / "a")
    entries = [
        (f"{PREFIX}q.lora_A.weight", "F32", [1], b"\0\0\x80\x3f"),
        (f"{PREFIX}v.lora_A.weight", "F8_E8M0", [1], b"\1"),
    ]
    raw(directory / "adapter_model.safetensors", entries)
    (facts,) = read_adapter(directory).classes
    assert (facts.tensors, facts.values) == (2, None)


def test_another_method_has_classes_and_no_modules(tmp_path: Path) -> None:
    """Its tensors are named by their suffixes."""
    saved = read_adapter(write(tmp_path / "a", {f"{PREFIX}q.ia3_l": values(3)}, peft_type="IA3"))
    assert ([facts.name for facts in saved.classes], saved.layers) == (["ia3_l"], ())


def test_pickled_weights_beside_the_file_are_noted_and_a_trainers_state_is_not(tmp_path: Path) -> None:
    """A checkpoint holds optimizer.pt and training_args.bin, which are no weights."""
    directory = write(tmp_path / "a")
    for name in ("adapter_model.bin", "optimizer.pt", "training_args.bin"):
        (directory / name).touch()
    assert read_adapter(directory).pickles == ("adapter_model.bin",)


# ------------------------------------------------------------------------------------------------------------ refusals


def test_a_missing_directory(tmp_path: Path) -> None:
    """It may be the name of a repository on a hub."""
    assert refused(tmp_path / "org" / "model") == (
        f"{tmp_path}/org/model: there is no such directory\n"
        "Only adapters on this machine are inspected. Names on a model hub are not looked up.\n"
        "Give the directory that holds adapter_config.json and adapter_model.safetensors."
    )


def test_a_directory_without_a_configuration(tmp_path: Path) -> None:
    """No subdirectory has one either."""
    assert refused(tmp_path) == (
        f"{tmp_path}: holds no adapter_config.json\n"
        "It is not a saved adapter.\n"
        "Give a directory that save_pretrained wrote."
    )


def test_a_directory_of_adapters_names_them(tmp_path: Path) -> None:
    """They are checkpoints of a trainer or several adapters of a model; of many, the first ones are named."""
    for step in range(1, 6):
        write(tmp_path / f"checkpoint-{step}")
    assert refused(tmp_path) == (
        f"{tmp_path}: holds no adapter_config.json\n"
        "It holds saved adapters one level below.\n"
        "Give one of them: checkpoint-1, checkpoint-2, checkpoint-3 and 2 more."
    )


def test_a_file_in_place_of_the_directory(tmp_path: Path) -> None:
    """The message names the directory."""
    path = write(tmp_path / "a") / "adapter_model.safetensors"
    assert refused(path) == (
        f"{path}: is a file, not a directory\n"
        "An adapter is its weights and its adapter_config.json together.\n"
        f"Give the directory: {tmp_path / 'a'}"
    )


def as_the_only_weights(directory: Path, name: str) -> Path:
    """A directory whose only weights are pickled."""
    write(directory)
    (directory / "adapter_model.safetensors").rename(directory / name)
    return directory


def as_the_argument(directory: Path, name: str) -> Path:
    """A pickle given as the argument."""
    return as_the_only_weights(directory, name) / name


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (as_the_only_weights, "is a pickle, and the directory has no safetensors file"),
        (as_the_argument, "is a pickle"),
    ],
)
@pytest.mark.parametrize("name", ["adapter_model.bin", "adapter_model.pt"])
def test_a_pickle_is_refused_with_the_way_to_convert_it(
    tmp_path: Path, given: Callable[[Path, str], Path], problem: str, name: str
) -> None:
    """It is recognised by its name and never read."""
    assert refused(given(tmp_path / "a", name)) == (
        f"{tmp_path / 'a' / name}: {problem}\n"
        "Pickles are not read: reading a pickle can run any code that its author put into it.\n"
        "If you trust its source, convert it in its directory with the stack that made it:\n"
        '  python -c "import torch, safetensors.torch as st; '
        f"t = torch.load('{name}', map_location='cpu', weights_only=True); "
        "st.save_file({k: v.contiguous() for k, v in t.items()}, 'adapter_model.safetensors', {'format': 'pt'})\""
    )


@pytest.mark.parametrize(
    ("beside", "told"),
    [((), "none"), (("README.md", "tokenizer.json"), "README.md, tokenizer.json")],
)
def test_a_directory_without_weights_lists_its_files(tmp_path: Path, beside: tuple[str, ...], told: str) -> None:
    """Adapters with other names are not searched."""
    directory = write(tmp_path / "a")
    (directory / "adapter_model.safetensors").unlink()
    for name in beside:
        (directory / name).touch()
    assert refused(directory) == (
        f"{directory}: holds no adapter_model.safetensors\n"
        f"Files other than adapter_config.json in the directory: {told}.\n"
        "Save the adapter again with save_pretrained, or copy the missing file."
    )
