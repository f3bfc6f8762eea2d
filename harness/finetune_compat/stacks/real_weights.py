"""Real weights: what `--model` may name, and what cells that train them are called. Host side."""

from __future__ import annotations

import re
from pathlib import Path

from finetune_compat.contract.catalog import MODELS
from finetune_compat.contract.errors import CompatError
from finetune_compat.machine.files import read_object

_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")
"""`name` or `org/name`, as the hub spells them."""

_WEIGHTS = ("*.safetensors", "*.bin")
_TOKENIZERS = ("tokenizer*.json", "*.model", "vocab.*")


def checked(asked: str) -> str:
    """The absolute path of the directory `asked`, or `asked` itself if it looks like a hub id.

    Raises:
        CompatError: it is neither, or the directory holds no model that the flows can quantize themselves.
    """
    path = Path(asked)
    if asked and path.is_dir():
        _refuse_other_than_a_model(path / "config.json")
        _refuse_an_incomplete_one(path)
        return str(path.resolve())
    if path.exists() or not _HUB_ID.fullmatch(asked):
        raise CompatError(
            f"{asked!r} is neither a directory nor a hub id",
            where="--model",
            meaning="The directory is not there, or a single file of a model was named.",
            todo="Name the directory that save_pretrained wrote, or a model of the hub, such as Qwen/Qwen2.5-7B.",
        )
    return asked


def _refuse_other_than_a_model(config: Path) -> None:
    raw = read_object(config)
    if not isinstance(raw.get("model_type"), str):
        raise CompatError(
            "not a model's config: it has no model_type",
            where=str(config),
            meaning="The directory holds something else, such as an adapter.",
            todo="Hand --model the directory of the base model.",
        )
    if raw.get("quantization_config"):
        raise CompatError(
            "the model is stored quantized",
            where=str(config),
            meaning="The flows quantize the weights themselves, or leave them whole.",
            todo="Hand --model the model it was made from.",
        )


def _refuse_an_incomplete_one(path: Path) -> None:
    """What no library finds would be an error of a cell, and a release's fault in the report."""
    for what, names in (("weights", _WEIGHTS), ("tokenizer", _TOKENIZERS)):
        if not any(found for name in names for found in path.glob(name)):
            raise CompatError(
                f"holds no {what}: none of {', '.join(names)}",
                where=str(path),
                meaning="Cells load the model and its tokenizer from the one directory.",
                todo="Put it there with save_pretrained, or name the directory that has both.",
            )


def from_hub(model: str) -> bool:
    """Whether `model`, as `checked` returns it, is a hub id."""
    return not Path(model).is_absolute()


def cell_name(model: str) -> str:
    """What stands for `model` in the names of cells: its last part in letters, digits, dots, dashes and underscores,
    and never the name of a tiny model.
    """
    name = re.sub(r"[^A-Za-z0-9._-]", "-", model.rstrip("/").rpartition("/")[2])
    return f"{name}-weights" if name in MODELS or not name else name
