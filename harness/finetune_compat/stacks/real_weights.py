"""Real weights: valid values of `--model`, and the names of cells that train them. Host side."""

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
    """The absolute path of the directory `asked`, or `asked` itself if it has the form of a hub id.

    Raises:
        CompatError: it is neither, or the directory has no complete, unquantized model.
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
            meaning="The directory does not exist, or the value is a single file of a model.",
            todo="Name the directory that save_pretrained wrote, or a hub id (example: Qwen/Qwen2.5-7B).",
        )
    return asked


def _refuse_other_than_a_model(config: Path) -> None:
    raw = read_object(config)
    if not isinstance(raw.get("model_type"), str):
        raise CompatError(
            "not a model's config: it has no model_type",
            where=str(config),
            meaning="The directory has no base model, but for example an adapter.",
            todo="Pass the directory of the base model to --model.",
        )
    if raw.get("quantization_config"):
        raise CompatError(
            "the model is stored quantized",
            where=str(config),
            meaning="The flows quantize the weights themselves, or train them unquantized.",
            todo="Pass the original, unquantized model to --model.",
        )


def _refuse_an_incomplete_one(path: Path) -> None:
    """Refuse a directory without weights or tokenizer: in a cell, the error would count as a fault of the release."""
    for what, names in (("weights", _WEIGHTS), ("tokenizer", _TOKENIZERS)):
        if not any(found for name in names for found in path.glob(name)):
            raise CompatError(
                f"holds no {what}: none of {', '.join(names)}",
                where=str(path),
                meaning="Cells load the model and its tokenizer from the same directory.",
                todo=f"Write the {what} there with save_pretrained, or name the directory that has both.",
            )


def from_hub(model: str) -> bool:
    """Whether `model`, as `checked` returns it, is a hub id."""
    return not Path(model).is_absolute()


def cell_name(model: str) -> str:
    """The name of `model` in cell ids: its last path component, in letters, digits, dots, dashes and underscores.

    It is never the name of a tiny model.
    """
    name = re.sub(r"[^A-Za-z0-9._-]", "-", model.rstrip("/").rpartition("/")[2])
    return f"{name}-weights" if name in MODELS or not name else name
