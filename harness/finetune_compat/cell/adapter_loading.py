"""Load an adapter's names and shapes into a base without weights: run as a module, with a request and an answer file.

The base is built from its config on the meta device. PEFT's own from_pretrained loads a file with the adapter's names
and shapes, so that a release converts names (prefixes, merged experts) as it always does. The file is sparse: a header,
and tensors without bytes on disk. Nothing reads the bytes, because a model on the meta device has no values.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import struct
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from peft import PeftModel, PromptLearningConfig, get_peft_model_state_dict
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

from finetune_compat.cell.model_classes import model_class

_HEADS = {
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
    "FEATURE_EXTRACTION": "AutoModel",
}
"""Auto class by task, for tasks whose head differs from the one that the base was saved with."""

_OTHERWISE = {"SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM"}

_CLASSIFIERS = ("score.weight", "classifier.weight", "classifier.out_proj.weight")
"""Ends of the names of tensors with one row per label."""

_BITS = {"F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16, "U16": 16}
"""Bits of an element by dtype; 8 for other dtypes."""

_NEEDS_VALUES = re.compile(r"\bmeta (?:tensor|kernel|backend)|\bregister_meta\b", re.IGNORECASE)
"""In errors of torch: an operation that the meta device does not have, because its tensors have no values."""

_DRAWN_AGAIN = re.compile(r"base_model\.p?vera_[AB]\b")
"""Names of tensors that PEFT saves and also draws again from `projection_prng_key`: the file's are not needed."""

Shape = tuple[int, ...]


def answer_to(request: Mapping[str, Any]) -> dict[str, Any]:
    """The result of loading: versions, base class, error, and the tensors that fit, are missing, unexpected or differ
    in shape. `untold` is the error of a method that calculates with values while it is loaded: there are none here.

    Args:
        request: `adapter`, the adapter's configuration; `tensors`, dtype and shape by name; `base`, the base's
            config.json.
    """
    tensors = {name: (str(dtype), tuple(shape)) for name, (dtype, shape) in request["tensors"].items()}
    given, in_file = dict[str, Shape](), {name: shape for name, (_, shape) in tensors.items()}
    prompt = learns_a_prompt(request["adapter"])
    model, base, tied, error, untold = None, "", None, "", ""
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings(), loads_seen(given) as seen:
        warnings.simplefilter("ignore")
        try:
            bare = base_model(request["base"], request["adapter"], tensors, Path(scratch, "base"))
            base, tied = type(bare).__name__, getattr(bare.config, "tie_word_embeddings", None)
            adapter = saved_without_bytes(request["adapter"], tensors, Path(scratch, "adapter"))
            with torch.device("meta"):
                # Trainable, because requires_grad then marks the adapter's parameters. PEFT refuses this for a prompt.
                model = PeftModel.from_pretrained(bare, str(adapter), is_trainable=not prompt)
        except Exception as raised:  # noqa: BLE001 - every exception of a library is the answer
            text = f"{type(raised).__name__}: {raised}"
            error, untold = ("", text) if _NEEDS_VALUES.search(text) else (text, "")
        model = None if untold else model or (seen[0] if seen else None)
    return {
        "versions": {library.__name__: library.__version__ for library in (peft, transformers, torch)},
        "base": base,
        "tied": tied,
        **compared(model, in_file if prompt else given, error, prompt=prompt),
        "untold": untold,
        "unknown_options": unknown_options(request["adapter"]),
    }


def learns_a_prompt(adapter: Mapping[str, Any]) -> bool:
    """Whether the method of `adapter` learns virtual tokens. False if the installed PEFT does not know the method."""
    config = PEFT_TYPE_TO_CONFIG_MAPPING.get(adapter["peft_type"])
    return config is not None and issubclass(config, PromptLearningConfig)


def compared(model: Any, given: Mapping[str, Shape], error: str, *, prompt: bool) -> dict[str, Any]:
    """Compare the tensors `given` to PEFT with those of the model. If shapes differ, `error` is left out.

    PEFT computes the tensors of a prompt when it saves them, and the model has no parameters of these names. The file
    must then have the tensors that PEFT would save for the model.
    """
    if model is None:
        return {"error": error, "fitting": 0, "missing": [], "unexpected": [], "mismatched": []}
    if prompt:
        saved = shapes_of(get_peft_model_state_dict(model, save_embedding_layers=False))
        has, wanted = shapes_of(model.state_dict()) | saved | joined_to_inputs(model, saved), list(saved)
    else:
        has = shapes_of(model.state_dict())
        wanted = [names[0] for names in trainable_names(model) if not given.keys() & set(names)]
    mismatched = [(name, shape, has[name]) for name, shape in given.items() if has.get(name, shape) != shape]
    return {
        "error": "" if mismatched else error,
        "fitting": sum(has.get(name) == shape for name, shape in given.items()),
        "missing": [name for name in wanted if name not in given],
        "unexpected": [name for name in given if name not in has and not _DRAWN_AGAIN.match(name)],
        "mismatched": mismatched,
    }


def trainable_names(model: Any) -> list[list[str]]:
    """The names of each trainable parameter. One that layers share, as in VB-LoRA, has several, and a file has one."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter.requires_grad:
            names.setdefault(id(parameter), []).append(name)
    return list(names.values())


def joined_to_inputs(model: Any, saved: Mapping[str, Shape]) -> dict[str, Shape]:
    """The shape that a prompt needs to be joined to the base's input embeddings; empty if it is not joined to them.

    PEFT creates the prompt with the width in the configuration. Only a forward pass would show that the base has
    another width.
    """
    *tokens, width = saved["prompt_embeddings"]
    if width != model.active_peft_config.token_dim:
        return {}  # keys and values of every layer
    return {"prompt_embeddings": (*tokens, model.get_base_model().get_input_embeddings().weight.shape[-1])}


def shapes_of(tensors: Mapping[str, Any]) -> dict[str, Shape]:
    """The shape of each tensor, by name."""
    return {name: tuple(value.shape) for name, value in tensors.items()}


@contextmanager
def loads_seen(given: dict[str, Shape]) -> Iterator[list[Any]]:
    """While open, adds the shapes that a PeftModel loads to `given`, under the names to which PEFT converted those of
    the file. Yields the list of these models.
    """
    models: list[Any] = []
    original = torch.nn.Module.load_state_dict

    def noted(self: Any, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        if isinstance(self, PeftModel):
            models.append(self)
            given.update(shapes_of(state_dict))
        return original(self, state_dict, *args, **kwargs)

    torch.nn.Module.load_state_dict = noted  # type: ignore[method-assign, assignment]
    try:
        yield models
    finally:
        torch.nn.Module.load_state_dict = original  # type: ignore[method-assign]


def base_model(
    config: Mapping[str, Any], adapter: Mapping[str, Any], tensors: Mapping[str, tuple[str, Shape]], folder: Path
) -> Any:
    """The base of `config` on the meta device, with the head for the task of `adapter`."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    parsed = transformers.AutoConfig.from_pretrained(str(folder))
    task = adapter.get("task_type")
    labels = [shape[0] for name, (_, shape) in tensors.items() if name.endswith(_CLASSIFIERS)]
    if task in _HEADS and labels:
        parsed.num_labels = labels[0]
    with torch.device("meta"):
        saved_as = model_class(parsed.architectures)
        if task not in _HEADS and saved_as is not None:
            return saved_as._from_config(parsed)
        auto = _HEADS.get(task or "", _OTHERWISE.get(task or "", "AutoModelForCausalLM"))
        return getattr(transformers, auto).from_config(parsed)


def saved_without_bytes(adapter: Mapping[str, Any], tensors: Mapping[str, tuple[str, Shape]], folder: Path) -> Path:
    """Save an adapter with `tensors` in `folder`, as a sparse file without values. Returns `folder`."""
    folder.mkdir()
    # Initial values that are computed from the base's weights, or from another file, are not available here. Options
    # for them are replaced: they change neither names nor shapes.
    plain = {**adapter, "init_lora_weights": True} if "init_lora_weights" in adapter else dict(adapter)
    if adapter.get("prompt_tuning_init_state_dict_path"):
        plain["prompt_tuning_init"] = "RANDOM"
    (folder / "adapter_config.json").write_text(json.dumps(plain), encoding="utf-8")
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (dtype, shape) in tensors.items():
        begin, end = end, end + math.prod(shape) * _BITS.get(dtype, 8) // 8
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with (folder / "adapter_model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return folder


def unknown_options(adapter: Mapping[str, Any]) -> list[str]:
    """Options that `adapter` enables and for which the installed PEFT has no field."""
    config = PEFT_TYPE_TO_CONFIG_MAPPING.get(adapter["peft_type"])
    known = {field.name for field in dataclasses.fields(config)} if config else set(adapter)
    unknown = {name: value for name, value in adapter.items() if name not in known and name != "peft_version"}
    # Numbers are left out: they are settings of other options, and are saved also when those are disabled.
    return sorted(name for name, value in unknown.items() if value and (value is True or not isinstance(value, int)))


if __name__ == "__main__":
    asked, answered = (Path(name) for name in sys.argv[1:])
    answered.write_text(json.dumps(answer_to(json.loads(asked.read_text(encoding="utf-8")))), encoding="utf-8")
