"""After training: is what the script saves the model that was trained? It is loaded again at once, and its logits are
compared.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from finetune_compat.cell.instruments.census import active_adapters, has_adapters
from finetune_compat.cell.script.adapter_states import adapter_layers
from finetune_compat.cell.script.stories import root
from finetune_compat.contract.script import Reload

_SMALL = 1 << 30
"""Largest model, in bytes, that is loaded again by default: the second copy needs as much memory."""

_ROWS, _TOKENS = 2, 32
"""Rows and tokens of the batch whose logits are compared."""

_DIMENSIONS = 2
"""Token ids are [rows, tokens]."""

_EXACT = 1e-3
"""Largest difference in float32: the same weights go through the same kernels. A merge rounds once for each weight."""

_COARSE = 5e-2
"""The same in half precision, whose numbers have 8 to 11 bits."""

_FACTOR = 0.01
"""Largest relative difference of two factors that count as the same."""

_LIKE = 0.99
"""Least cosine between the change of a weight and the update of the adapter that it was made from."""

Probe = Mapping[str, torch.Tensor]
"""Arguments of a forward."""

_NAMES = ("input_ids", "chosen_input_ids", "input_ids_chosen")


def probe_of(inputs: Any) -> Probe | None:
    """A few tokens of a training batch, without padding at their beginning; None if it has none."""
    if not isinstance(inputs, Mapping):
        return None
    name = next((name for name in _NAMES if isinstance(inputs.get(name), torch.Tensor)), None)
    if name is None or inputs[name].dim() != _DIMENSIONS:
        return None
    ids = inputs[name][:_ROWS, :_TOKENS].detach().clone()
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def is_due(model: nn.Module, wanted: bool | None) -> bool:
    """Whether to load `model` again: as asked for, and else if it is small."""
    if wanted is not None:
        return wanted
    parameters = list(model.parameters())
    size = sum(parameter.numel() * parameter.element_size() for parameter in parameters)
    return size <= _SMALL


def logits_of(model: nn.Module, probe: Probe) -> torch.Tensor | None:
    """The logits of `model` for `probe`, in evaluation mode; None if it has none, or other ones each time."""
    training = [module for module in model.modules() if module.training]
    # Trainers replace the forward of a model, for autocast or to save logits: what is loaded again has none of these.
    replaced = {module: vars(module).pop("forward") for module in model.modules() if "forward" in vars(module)}
    place = next(model.parameters()).device
    given = {name: value.to(place) for name, value in probe.items()}
    try:
        model.eval()
        with torch.no_grad(), torch.random.fork_rng():
            first, second = _logits(model(**given)), _logits(model(**given))
    except Exception:  # noqa: BLE001 - a model that needs more than tokens cannot be compared
        return None
    finally:
        for module in training:
            module.training = True
        for module, forward in replaced.items():
            module.forward = forward
    # With an eval() that leaves dropout on, no two are the same.
    return first if first is not None and second is not None and torch.equal(first, second) else None


def _logits(output: Any) -> torch.Tensor | None:
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    return logits.detach().float().cpu() if isinstance(logits, torch.Tensor) else None


def again(model: Any, place: Path, probe: Probe, trained: torch.Tensor | None) -> Reload | None:
    """What was just saved to `place`, loaded again; None if it cannot be compared.

    Args:
        model: what was saved.
        place: where it was saved.
        probe: the batch to compare.
        trained: the logits of the model with its adapter when training ended, if `model` may have that merged.
    """
    if has_adapters(model):
        return _adapter_again(model, place, probe)
    return _model_again(model, place, probe, trained)


def _adapter_again(model: Any, place: Path, probe: Probe) -> Reload | None:
    """The adapter that was just saved to `place`, loaded over a copy of its base as a user loads it; None if the base
    cannot be had back.
    """
    peft, active = sys.modules.get("peft"), active_adapters(model)
    if peft is None or not isinstance(model, peft.PeftModel) or len(active) != 1:
        return None
    folder = place if active[0] == "default" else place / active[0]
    if not (folder / "adapter_config.json").is_file() or _changes_its_base(model.peft_config[active[0]]):
        return None
    trained, base = logits_of(model, probe), _base_of(model)
    if trained is None or base is None:
        return None
    try:
        again = peft.PeftModel.from_pretrained(base, str(folder))
    except Exception as error:  # noqa: BLE001 - whatever loading raises is the finding
        return Reload(what="adapter", difference=None, allowed=0.0, error=_said(error))
    return _compared("adapter", trained, logits_of(again, probe), model)


def _changes_its_base(config: Any) -> bool:
    """Whether the adapter was made out of the weights of its base, and took them out of it, as PiSSA does: it is loaded
    into the base as it was before.
    """
    started = getattr(config, "init_lora_weights", True)
    return isinstance(started, str) and started != "gaussian"


def _base_of(model: Any) -> Any:
    """A copy of the base of `model` without its adapters; None if PEFT cannot take them off."""
    twin = copy.deepcopy(model)
    if getattr(twin.active_peft_config, "is_prompt_learning", False):
        return twin.get_base_model()
    if not hasattr(twin.base_model, "unload"):
        return None
    base = twin.unload()
    vars(base).pop("peft_config", None)  # PEFT would take it for a further adapter
    return base


def _model_again(model: Any, place: Path, probe: Probe, trained: torch.Tensor | None) -> Reload | None:
    """The whole model that was just saved to `place`, loaded from there; None for classes of the script."""
    kind = type(model)
    if not kind.__module__.startswith("transformers.") or getattr(model, "hf_quantizer", None) is not None:
        return None
    if not (place / "config.json").is_file():
        return None
    before = logits_of(model, probe)
    if before is None:
        return None
    what = "model" if trained is None else "merged model"
    try:
        again = kind.from_pretrained(str(place)).to(next(model.parameters()).dtype)
    except Exception as error:  # noqa: BLE001 - whatever loading raises is the finding
        return Reload(what=what, difference=None, allowed=0.0, error=_said(error))
    return _compared(what, before if trained is None else trained, logits_of(again, probe), model)


def _compared(what: str, one: torch.Tensor, other: torch.Tensor | None, model: nn.Module) -> Reload | None:
    if other is None or one.shape != other.shape or not bool(torch.isfinite(one).all()):
        return None
    size = float(one.abs().max())
    coarse = any(p.dtype != torch.float32 for p in model.parameters())
    if not size:
        return None
    difference = float((one - other).abs().nan_to_num(nan=size).max()) / size
    return Reload(what=what, difference=difference, allowed=_COARSE if coarse else _EXACT)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}"


def unscaled(trained: nn.Module, saved: nn.Module) -> str:
    """How the weights of `saved` differ from those of `trained` with its adapter merged, if only by the scaling of the
    adapter; else empty. A factor of the script's own choice is no fault.
    """
    factors, wanted = [], []
    adapted = set(adapter_layers(trained))
    layers: dict[str, Any] = {name: layer for name, layer in root(trained).named_modules() if layer in adapted}
    weights = dict(root(saved).named_parameters())
    for name, layer in layers.items():
        found = weights.get(f"{name}.weight")
        factor = _factor(layer, found) if found is not None else None
        if factor is None:
            return ""
        factors.append(factor)
        wanted.append(float(layer.scaling[layer.active_adapters[0]]))
    if not factors:
        return ""
    if all(abs(scale - 1) > _FACTOR and _same(one * scale, 1) for one, scale in zip(factors, wanted, strict=True)):
        return f"{1 / factors[0]:.4g} times too small: the scaling (lora_alpha / r) is left out"
    if all(abs(scale - 1) > _FACTOR and _same(one, scale) for one, scale in zip(factors, wanted, strict=True)):
        return f"{factors[0]:.4g} times too large: the scaling (lora_alpha / r) is there twice"
    return ""


def _factor(layer: Any, weight: torch.Tensor) -> float | None:
    """The multiple of the adapter's update by which `weight` differs from the base of `layer`; None if it is none."""
    base = layer.get_base_layer().weight
    if layer.merged or len(layer.active_adapters) != 1 or not hasattr(layer, "get_delta_weight"):
        return None
    if weight.shape != base.shape or not weight.is_floating_point():
        return None
    with torch.no_grad():
        change = (weight.cpu().double() - base.cpu().double()).flatten()
        update = layer.get_delta_weight(layer.active_adapters[0]).cpu().double().flatten()
    sizes = float(change.norm() * update.norm())
    if not sizes or float(change @ update) < _LIKE * sizes:
        return None
    return float(change @ update) / float(update @ update)


def _same(one: float, other: float) -> bool:
    return abs(one - other) <= _FACTOR * abs(other)
