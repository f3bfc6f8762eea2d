"""The subjects of a census: the shipped model families, and any `config.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from finetune_compat.census.limits import check_config
from finetune_compat.contract.errors import CompatError, UnknownName
from finetune_compat.machine.files import read_object

FAMILIES = Path(__file__).resolve().parent / "configs"


@dataclass(frozen=True, slots=True)
class Family:
    """A shipped config: the values of a public model's `config.json`, and public facts about the model."""

    name: str
    title: str
    model: str
    """Model name on the hub."""
    parameters: int
    """Parameters of the public checkpoint, as its hub page states them."""
    since: str
    """First Transformers release that has the model's classes and reads its config."""
    layers_alike: bool
    """Whether its decoder layers are the same except for their index, and are so many that building one saves time."""
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Subject:
    """The subject of a census: a family, or a user's config."""

    title: str
    config: Mapping[str, Any]
    family: Family | None

    @property
    def layers_alike(self) -> bool:
        """Whether building one decoder layer is enough."""
        return self.family is not None and self.family.layers_alike


@cache
def families() -> tuple[Family, ...]:
    """All shipped families, by name."""
    files = sorted(FAMILIES.glob("*.json"))
    return tuple(Family(name=file.stem, **json.loads(file.read_text(encoding="utf-8"))) for file in files)


def find(asked: str) -> Subject:
    """The family named `asked`, or the config at the path `asked`: a file, or a folder with a `config.json`.

    Raises:
        UnknownName: `asked` is not a path, and there is no family of this name.
        CompatError: the file is missing, not JSON, or not a config of a model that can be counted.
    """
    family = next((family for family in families() if family.name == asked.lower()), None)
    if family is not None:
        return Subject(family.title, family.config, family)
    path = Path(asked)
    if not asked or (not path.exists() and path.suffix != ".json" and "/" not in asked):
        raise _unknown(asked)
    return _subject(path / "config.json" if path.is_dir() else path)


def _unknown(asked: str) -> UnknownName:
    names = [family.name for family in families()]
    near = get_close_matches(asked.lower(), names, n=1, cutoff=0.4)
    return UnknownName(
        f"there is no family {asked!r}" if asked else "no family and no config.json was given",
        meaning=(f"Did you mean {near[0]}? " if near else "") + f"The families are: {', '.join(names)}.",
        todo="Or pass a config.json: any model that the stack's Transformers knows can be counted.",
    )


def _subject(file: Path) -> Subject:
    raw = read_object(file)
    if not isinstance(raw.get("model_type"), str):
        adapter = "peft_type" in raw
        raise CompatError(
            "not a model's config: it has no model_type",
            where=str(file),
            meaning="It is the config of an adapter." if adapter else "Every config.json of Transformers has one.",
            todo="Pass this file as --lora, and the config.json of its base model here."
            if adapter
            else "Pass the config.json from the folder of a model's weights.",
        )
    check_config(raw, file)
    title = file.parent.name if file.name == "config.json" and file.parent.name else file.name
    method = _stored_as(raw)
    if not method:
        return Subject(title, raw, None)
    if method not in _UNPACKED:
        raise CompatError(
            f"the model is stored quantized ({method})",
            where=str(file),
            meaning="A census applies quantization itself, as bitsandbytes does when a model is loaded.",
            todo="Pass the config.json of the unquantized model, and choose --quantization.",
        )
    whole = {key: value for key, value in raw.items() if key != "quantization_config"}
    return Subject(f"{title} ({_UNPACKED[method]})", whole, None)


_UNPACKED = {
    "bitsandbytes": "stored by bitsandbytes; counted as --quantization says",
    "fbgemm_fp8": "stored in fp8; counted as the unquantized model",
    "fp8": "stored in fp8; counted as the unquantized model",
    "mxfp4": "stored in mxfp4; counted as the unquantized model",
}
"""How a model is counted that is stored by one of these methods: its modules have the shapes of the plain model's."""


def _stored_as(config: Mapping[str, Any]) -> str:
    """The method by which the model is stored quantized; empty if it is not."""
    stored = config.get("quantization_config")
    if not stored:
        return ""
    return str(stored.get("quant_method", "unknown method")) if isinstance(stored, dict) else "unknown method"
