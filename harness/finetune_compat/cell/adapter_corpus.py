"""Save a trained adapter of every method of the installed PEFT, or load adapters that other releases saved.

Run as a module in a stack's environment, with a request and an answer file. The base is a tiny Llama that one stack
saves for all of them. Its answers to fixed tokens, before and after loading, say whether an adapter was loaded.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from peft import PeftModel, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from transformers import LlamaConfig, LlamaForCausalLM

from finetune_compat.cell.adapter_loading import answer_to as prediction_of

WIDTH = 32
TOKENS = torch.arange(1, 9).unsqueeze(0)
STEPS, LEARNING_RATE = 4, 0.05

_TARGETS: dict[str, Any] = {"target_modules": ["q_proj", "v_proj"]}
_TASK: dict[str, Any] = {"task_type": "CAUSAL_LM"}

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    # Sizes that fit a model of this width, and arguments without a usable default.
    "ADALORA": {**_TARGETS, "init_r": 6, "target_r": 4, "total_step": 100, "tinit": 10, "tfinal": 10},
    "ADAPTION_PROMPT": {**_TASK, "adapter_len": 4, "adapter_layers": 1},
    "C3A": {**_TARGETS, "block_size": 4},
    "CPT": {**_TASK, "cpt_token_ids": [1, 2, 3], "cpt_mask": [1, 1, 1], "cpt_tokens_type_mask": [1, 2, 4]},
    "FOURIERFT": {**_TARGETS, "n_frequency": 16},
    "HRA": {**_TARGETS, "r": 4},
    "IA3": {"target_modules": ["k_proj", "v_proj", "down_proj"], "feedforward_modules": ["down_proj"]},
    "MISS": {**_TARGETS, "r": 4},
    "SHIRA": {**_TARGETS, "r": 2},
    "WAVEFT": {**_TARGETS, "n_frequency": 16},
    "LN_TUNING": {"target_modules": ["input_layernorm", "post_attention_layernorm"]},
    "P_TUNING": {**_TASK, "num_virtual_tokens": 4, "encoder_hidden_size": WIDTH},
    "PREFIX_TUNING": {**_TASK, "num_virtual_tokens": 4},
    "PROMPT_TUNING": {**_TASK, "num_virtual_tokens": 4},
    "ROAD": {**_TARGETS, "group_size": 8},
    "TRAINABLE_TOKENS": {"token_indices": [1, 2, 3]},
    "VBLORA": {**_TARGETS, "r": 2, "num_vectors": 8, "vector_length": 8, "topk": 2},
}
"""By PEFT type: the arguments of its config. Other methods get only the modules to adapt, if they adapt modules."""

_LORA: dict[str, Any] = {**_TARGETS, "r": 4, "lora_alpha": 8}

LORA_VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "LORA": _LORA,
    "LORA rslora": {**_LORA, "use_rslora": True},
    "LORA dora": {**_LORA, "use_dora": True},
    "LORA pissa": {**_LORA, "init_lora_weights": "pissa"},
    "LORA olora": {**_LORA, "init_lora_weights": "olora"},
    "LORA bias": {**_LORA, "bias": "lora_only"},
    "LORA rank_pattern": {**_LORA, "rank_pattern": {"layers.0.self_attn.q_proj": 2}, "alpha_pattern": {"v_proj": 16}},
    "LORA exclude_modules": {**_LORA, "exclude_modules": ["layers.0.self_attn.q_proj"]},
    "LORA modules_to_save": {**_LORA, "modules_to_save": ["lm_head"]},
    "LORA trainable_token_indices": {**_LORA, "trainable_token_indices": [1, 2, 3]},
    "LORA target_parameters": {"r": 4, "lora_alpha": 8, "target_modules": [], "target_parameters": ["q_proj.weight"]},
}
"""Variants of LoRA that have tensors or options of their own."""


def answer_to(request: Mapping[str, Any]) -> dict[str, Any]:
    """The result of one request.

    Args:
        request: `base`, the directory of the base model; and either `make` (save the base there), `into` (save one
            adapter of each method below this directory), or `adapters` (load them, by key: `directory`, `config` and
            `tensors`, the dtype and shape of each).
    """
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    base = Path(request["base"])
    versions = {library.__name__: library.__version__ for library in (peft, transformers, torch)}
    if request.get("make"):
        _base().save_pretrained(str(base))
        return {"versions": versions}
    if "into" in request:
        return {"versions": versions, "saved": _all_saved(base, Path(request["into"]))}
    found = {key: _found(base, given) for key, given in request["adapters"].items()}
    return {"versions": versions, "found": found}


def _base() -> LlamaForCausalLM:
    torch.manual_seed(0)
    # Biases, so that an adapter that trains them differs from one that does not.
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=64,
        attention_bias=True,
        tie_word_embeddings=False,
        initializer_range=0.2,
    )
    return LlamaForCausalLM(config)


def _loaded(base: Path) -> Any:
    return LlamaForCausalLM.from_pretrained(str(base), torch_dtype=torch.float32)


def _all_saved(base: Path, into: Path) -> dict[str, dict[str, str]]:
    kinds = {kind: str(getattr(kind, "value", kind)) for kind in PEFT_TYPE_TO_CONFIG_MAPPING}
    found = {}
    for kind, name in kinds.items():
        config = PEFT_TYPE_TO_CONFIG_MAPPING[kind]
        usual = _TARGETS if "target_modules" in config.__dataclass_fields__ else _TASK
        variants = LORA_VARIANTS if name == "LORA" else {name: SETTINGS.get(name, usual)}
        for method, options in variants.items():
            folder = method.replace(" ", "-").lower()
            error = _saved(base, into / folder, config, options)
            found[method] = {"directory": folder, "error": error}
    return found


def _saved(base: Path, into: Path, config: Callable[..., Any], options: Mapping[str, Any]) -> str:
    """Train an adapter for a few steps and save it, with the answers of the model. Returns the error; empty if none."""
    torch.manual_seed(1)
    try:
        bare = _loaded(base)
        before = _logits(bare)
        model = get_peft_model(bare, config(**options))
        _train(model)
        model.save_pretrained(str(into))
        answers = {"before": before.tolist(), "after": _logits(model).tolist()}
    except Exception as raised:  # noqa: BLE001 - every exception of a library is the answer
        return _text(raised)
    (into / "answers.json").write_text(json.dumps(answers), encoding="utf-8")
    return ""


def _train(model: Any) -> None:
    model.train()
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trainable, lr=LEARNING_RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        model(input_ids=TOKENS, labels=TOKENS).loss.backward()
        optimizer.step()


def _logits(model: Any) -> torch.Tensor:
    """The answers to the last tokens: methods with virtual tokens put theirs in front."""
    model.eval()
    with torch.no_grad():
        logits = model(input_ids=TOKENS).logits
    found: torch.Tensor = logits[0, -TOKENS.shape[1] :].float()
    return found


def _found(base: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """What became of one adapter here: really loaded, and as `compat inspect --base` predicts it."""
    directory = Path(given["directory"])
    answers = json.loads((directory / "answers.json").read_text(encoding="utf-8"))
    before, after = torch.tensor(answers["before"]), torch.tensor(answers["after"])
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    predicted = prediction_of({"adapter": given["config"], "tensors": given["tensors"], "base": config})
    bare = _loaded(base)
    drift = _distance(_logits(bare), before)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            loaded, error = _logits(PeftModel.from_pretrained(bare, str(directory))), ""
        except Exception as raised:  # noqa: BLE001 - likewise
            loaded, error = before, _text(raised)
    return {
        "error": error,
        "warned": [_line(str(one.message)) for one in caught if issubclass(one.category, UserWarning)],
        "moved": _distance(after, before),
        "off": _distance(loaded, after),
        "off_base": _distance(loaded, before),
        "drift": drift,
        "predicted": predicted,
    }


def _distance(left: torch.Tensor, right: torch.Tensor) -> float:
    """The largest absolute difference; infinite where one of both is not finite."""
    found = float((left - right).abs().max())
    return found if found == found else float("inf")  # noqa: PLR0124 - NaN


def _text(raised: BaseException) -> str:
    return f"{type(raised).__name__}: {_line(str(raised))}"


def _line(text: str) -> str:
    return " ".join(text.split())[:300]


if __name__ == "__main__":
    asked, answered = (Path(name) for name in sys.argv[1:])
    answered.write_text(json.dumps(answer_to(json.loads(asked.read_text(encoding="utf-8")))), encoding="utf-8")
