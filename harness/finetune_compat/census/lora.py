"""A user's LoRA configuration, from options or from an `adapter_config.json`, with validation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config

from finetune_compat.contract.census import ALL_LINEAR
from finetune_compat.contract.errors import CompatError
from finetune_compat.machine.files import read_object

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Every projection of a Llama-style decoder, by the names of most models."""

RANK = 64
ALPHA = 16

_REGEX_SIGNS = re.compile(r"[\\*+?()\[\]{}|^$]")
"""Characters that no module name contains: text with one of them is a regular expression."""

_BOOKKEEPING = ("auto_mapping", "base_model_name_or_path", "peft_type", "peft_version", "revision", "task_type")
"""Keys of an adapter_config.json that do not determine which modules are adapted."""


@dataclass(frozen=True, slots=True)
class Lora:
    """A LoRA configuration: PEFT's keyword arguments."""

    options: Mapping[str, Any]
    source: str
    """The source: the command line, or the file."""

    @property
    def patterns(self) -> tuple[str, ...]:
        """The patterns of all targets, in the user's order. A regular expression is one pattern."""
        modules = self.options.get("target_modules") or ()
        listed = (modules,) if isinstance(modules, str) else tuple(modules)
        return (*listed, *(self.options.get("target_parameters") or ()))

    @property
    def regex(self) -> str | None:
        """`target_modules` if it is a regular expression: PEFT treats any text except `all-linear` as one."""
        modules = self.options.get("target_modules")
        return modules if isinstance(modules, str) and modules != ALL_LINEAR else None


@with_config(ConfigDict(extra="ignore"))
@dataclass(frozen=True, slots=True, kw_only=True)
class _Checked:
    """The options that are validated here; PEFT validates all others."""

    r: Annotated[int, Field(ge=1, strict=True)] | None = None
    target_modules: list[str] | str | None = None
    target_parameters: list[str] | None = None
    rank_pattern: dict[str, int] | None = None
    alpha_pattern: dict[str, float] | None = None


_CHECKED = TypeAdapter(_Checked)


def from_options(r: int, alpha: int, targets: str, parameters: str) -> Lora:
    """The configuration from the command's options.

    Args:
        r: the rank.
        alpha: `lora_alpha`.
        targets: suffixes separated by commas, `all-linear`, or a regular expression.
        parameters: suffixes of parameters separated by commas, as `target_parameters` takes them.

    Raises:
        CompatError: a value is invalid.
    """
    options: dict[str, Any] = {"r": r, "lora_alpha": alpha, "target_modules": _targets(targets)}
    if parameters:
        options["target_parameters"] = _split(parameters)
    return _checked(options, "--r, --targets and --target-parameters")


def _targets(text: str) -> list[str] | str:
    if text == ALL_LINEAR or _REGEX_SIGNS.search(text):
        return text
    return _split(text)


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def from_file(path: Path) -> Lora:
    """The configuration in `path`, which is an `adapter_config.json` or a folder with one.

    Raises:
        CompatError: the file is missing, not JSON, or not of a LoRA adapter.
    """
    file = path / "adapter_config.json" if path.is_dir() else path
    raw = read_object(file)
    kind = raw.get("peft_type")
    if kind != "LORA":
        raise CompatError(
            "has no peft_type" if kind is None else f"its peft_type is {kind!r}, not 'LORA'",
            where=str(file),
            meaning="A census supports only LoRA.",
            todo="Pass the adapter_config.json of a LoRA adapter, or give --r and --targets.",
        )
    return _checked({key: value for key, value in raw.items() if key not in _BOOKKEEPING}, str(file))


def _checked(options: dict[str, Any], source: str) -> Lora:
    try:
        _CHECKED.validate_python(options)
    except ValidationError as error:
        # A value that matches none of several types is reported once per type.
        faults = {item["loc"][0]: _problem(dict(item)) for item in error.errors(include_url=False)}
        raise CompatError(
            "; ".join(f"{name}: {problem}" for name, problem in faults.items()),
            where=source,
            todo="Correct the value; PEFT's LoraConfig documents each option.",
        ) from None
    lora = Lora(options, source)
    _refuse_impossible(lora)
    return lora


def _problem(item: Mapping[str, Any]) -> str:
    given = item["input"]
    return f"must be 1 or more, not {given!r}" if item["type"] == "greater_than_equal" else f"cannot be {given!r}"


def _refuse_impossible(lora: Lora) -> None:
    if not lora.patterns and "target_modules" in lora.options and lora.options["target_modules"] is not None:
        raise CompatError(
            "names no target",
            where=lora.source,
            meaning="With nothing to adapt there is nothing to count.",
            todo="Name modules (example: --targets q_proj,v_proj), or use all-linear.",
        )
    if lora.options.get("layer_replication"):
        raise CompatError(
            "layer_replication cannot be counted",
            where=lora.source,
            meaning="PEFT then copies layers by number, but a census builds only one of several equal layers.",
            todo="Leave it out: it does not change the adapter of each layer.",
        )
    for what in ("rank_pattern", "alpha_pattern"):
        _refuse_impossible_keys(lora, what)
    try:
        re.compile(lora.regex or "")
    except (re.error, OverflowError, RecursionError) as error:
        raise CompatError(
            f"{lora.regex!r} is not a regular expression: {error}",
            where=lora.source,
            meaning="Text with one of \\ * + ? ( ) [ ] { } | ^ $ is treated as a regular expression.",
            todo="Correct it. Text without these characters is a list of suffixes, separated by commas.",
        ) from None


def _refuse_impossible_keys(lora: Lora, what: str) -> None:
    for key in lora.options.get(what) or {}:
        try:
            re.compile(key)
        except (re.error, OverflowError, RecursionError) as error:
            raise CompatError(
                f"{what}: {key!r} is not a regular expression: {error}",
                where=lora.source,
                meaning="PEFT treats every key as a regular expression.",
                todo="Correct it.",
            ) from None
