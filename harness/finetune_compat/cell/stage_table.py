"""Answer one census: `python -m finetune_compat.cell.stage_table REQUEST ANSWER`, inside a stack's environment.

The model is built without weights. The stack's own quantizer, `prepare_model_for_kbit_training` and `get_peft_model`
then process it like a real model, and every stage is counted. Of layers that are alike, one is processed and counted
for all: the table is that of the whole model.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from peft.utils.other import ModulesToSaveWrapper
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from finetune_compat.cell import alike, meta
from finetune_compat.cell.alike import Layout
from finetune_compat.cell.instruments.census import area_of, is_adapter, seat_of, unpacked
from finetune_compat.cell.runner import installed_versions
from finetune_compat.cell.targets import Targets, lora_config, targets_of
from finetune_compat.contract.census import (
    ALL_LINEAR,
    Adapter,
    AdapterKind,
    CannotBuild,
    Effective,
    Inability,
    LoadDtype,
    Quantization,
    Refusal,
    StageCount,
    StageTable,
    StageTableRequest,
    Weight,
    WeightKind,
)
from finetune_compat.contract.records import REPORTED, Area, AreaCount, Stage

LAYERS = "num_hidden_layers"

MATRIX = 2
"""Fewest dimensions of a parameter to which LoRA can be added."""


def answered(request: StageTableRequest) -> StageTable | Inability:
    """The stage table of `request` on this stack, or the reason why there is none."""
    try:
        cls = meta.class_of(meta.config_of(request.config))
        return stage_table(request, cls)
    except meta.NoClass as error:
        return Inability(CannotBuild.NO_CLASS, str(error), transformers.__version__)
    except meta.Rejected as error:
        return Inability(CannotBuild.REJECTED, str(error), transformers.__version__)


def stage_table(request: StageTableRequest, cls: type[PreTrainedModel]) -> StageTable:
    """The stage table of `request` over a model of class `cls`.

    Raises:
        Rejected: the class cannot be built from this config.
    """
    start = time.perf_counter()
    lora = lora_config(request.lora)
    targets = targets_of(request.lora, lora)
    model, layout = _thinned(request, cls, targets)
    if request.quantization is not Quantization.NONE:
        meta.quantize(model, request.quantization, request.dtype)
    meta.mark_loaded(model)
    stages = [_count(model, layout, Stage.LOAD)]
    weights = tuple(_weights(model, layout, targets))
    if request.quantization is not Quantization.NONE:
        model = prepare_model_for_kbit_training(model)
        stages.append(_count(model, layout, Stage.PREPARE))
    wrapped = lora if isinstance(lora, Refusal) else _wrapped(model, lora)
    if isinstance(wrapped, PeftModel):
        stages.append(_count(wrapped, layout, Stage.PEFT))
        weights = _with_adapters(weights, wrapped, layout, request.lora)
    return StageTable(
        model_class=cls.__name__,
        versions={name: version for name, version in installed_versions().items() if name in REPORTED},
        stages=tuple(stages),
        weights=weights,
        effective=_effective(wrapped, layout) if isinstance(wrapped, PeftModel) else None,
        refusal=wrapped if isinstance(wrapped, Refusal) else None,
        work_s=round(time.perf_counter() - start, 3),
    )


def _wrapped(model: PreTrainedModel, lora: LoraConfig) -> PeftModel | Refusal:
    try:
        with torch.device("meta"):
            return get_peft_model(model, lora)
    except Exception as error:  # noqa: BLE001 - every error of PEFT is a refusal
        return Refusal(type(error).__name__, str(error))


def _thinned(
    request: StageTableRequest, cls: type[PreTrainedModel], targets: Targets
) -> tuple[PreTrainedModel, Layout]:
    """The model with one layer of each kind. With `request.layers_alike` only one layer is built."""
    one = request.layers_alike and not targets.tells_layers_apart
    raw = {**request.config, LAYERS: 1} if one else request.config
    model = meta.built(cls, meta.config_of(raw), request.dtype)
    of_one = [name for name, module in model.named_modules() if isinstance(module, nn.ModuleList) and len(module) == 1]
    layout = alike.thin(model, targets.told_apart)
    if not one:
        return model, layout
    (layers,) = of_one
    return model, Layout({**layout.kept, layers: {"0": tuple(range(request.config[LAYERS]))}})


# ------------------------------------------------------------------------------------------------------------- counting


def _count(model: nn.Module, layout: Layout, stage: Stage) -> StageCount:
    counted = [(name, p, layout.times(_plain(name))) for name, p in model.named_parameters()]
    dtypes: Counter[str] = Counter()
    for _, parameter, times in counted:
        dtypes[str(parameter.dtype).removeprefix("torch.")] += parameter.numel() * times
    return StageCount(
        stage=stage,
        trainable=sum(p.numel() * times for _, p, times in counted if p.requires_grad),
        total=sum(p.numel() * times for _, p, times in counted),
        trainable_logical=sum(unpacked(p) * times for _, p, times in counted if p.requires_grad),
        total_logical=sum(unpacked(p) * times for _, p, times in counted),
        by_area=_by_area(counted, area_of),
        adapters_on=_by_area([item for item in counted if is_adapter(item[0])], seat_of),
        dtypes=dict(dtypes),
    )


def _by_area(counted: Iterable[tuple[str, torch.Tensor, int]], place: Callable[[str], Area]) -> dict[Area, AreaCount]:
    trainable: Counter[Area] = Counter()
    total: Counter[Area] = Counter()
    for name, parameter, times in counted:
        total[place(name)] += parameter.numel() * times
        trainable[place(name)] += parameter.numel() * times if parameter.requires_grad else 0
    return {area: AreaCount(trainable[area], total[area]) for area in total}


def _plain(name: str) -> str:
    """The name in the base model of a parameter in a PeftModel, without the parts that PEFT adds."""
    return name.removeprefix("base_model.model.").replace(".base_layer", "")


# -------------------------------------------------------------------------------------------------------------- weights


def _weights(model: nn.Module, layout: Layout, targets: Targets) -> Iterator[Weight]:
    for path, module in model.named_modules():
        kind = _kind(module)
        for name, parameter in module.named_parameters(recurse=False):
            full = f"{path}.{name}"
            direct = kind is WeightKind.PARAMETER
            if (direct and parameter.ndim >= MATRIX) or (not direct and name == "weight"):
                # LoRA is added to a module, or to a parameter that target_parameters names.
                patterns = () if direct else targets.matching_module(path)
                yield Weight(
                    path=layout.path(full if direct else path),
                    kind=kind,
                    area=area_of(full),
                    shape=_shape(module, parameter),
                    count=layout.times(full),
                    quantized=meta.is_quantized(parameter),
                    patterns=(*patterns, *targets.matching_parameter(full)),
                    adapter=None,
                )


def _kind(module: nn.Module) -> WeightKind:
    if isinstance(module, nn.Linear | Conv1D):
        return WeightKind.LINEAR
    if isinstance(module, nn.Embedding):
        return WeightKind.EMBEDDING
    # The base class of every convolution, which torch does not export.
    if isinstance(module, nn.modules.conv._ConvNd):
        return WeightKind.CONVOLUTION
    return WeightKind.PARAMETER


def _shape(module: nn.Module, parameter: nn.Parameter) -> tuple[int, ...]:
    """The shape of the unpacked weight. A quantized matrix no longer has it."""
    if isinstance(module, nn.Linear):
        return module.out_features, module.in_features
    return tuple(parameter.shape)


def _with_adapters(
    weights: tuple[Weight, ...], wrapped: PeftModel, layout: Layout, asked: Mapping[str, Any]
) -> tuple[Weight, ...]:
    adapters = {layout.path(name): adapter for name, adapter in _adapters(wrapped)}
    all_linear = asked.get("target_modules") == ALL_LINEAR
    changed = []
    for weight in weights:
        full = weight.path if weight.kind is WeightKind.PARAMETER else f"{weight.path}.weight"
        patterns = (ALL_LINEAR,) if all_linear and full in adapters else weight.patterns
        changed.append(dataclasses.replace(weight, adapter=adapters.get(full), patterns=patterns))
    return tuple(changed)


def _adapters(wrapped: PeftModel) -> Iterator[tuple[str, Adapter]]:
    """The adapters that PEFT added, with the name of the parameter in the base model."""
    for name, module in wrapped.named_modules():
        if hasattr(module, "lora_A"):
            # Layers for two parameters of one module are nested, and each has the name of its parameter.
            yield f"{_plain(name)}.{getattr(module, 'parameter_name', None) or 'weight'}", _lora(module)
        elif isinstance(module, ModulesToSaveWrapper):
            copied = sum(p.numel() for p in module.modules_to_save.parameters() if p.requires_grad)
            yield f"{_plain(name)}.weight", Adapter(AdapterKind.COPY, (), (), copied)


def _lora(module: Any) -> Adapter:
    linear = "default" in module.lora_A
    a = module.lora_A["default"].weight if linear else module.lora_embedding_A["default"]
    b = module.lora_B["default"].weight if linear else module.lora_embedding_B["default"]
    own = [p for name, p in module.named_parameters() if "lora_" in name and not name.startswith("base_layer.")]
    return Adapter(AdapterKind.LORA, tuple(a.shape), tuple(b.shape), sum(p.numel() for p in own if p.requires_grad))


def _effective(wrapped: PeftModel, layout: Layout) -> Effective:
    config: Any = wrapped.peft_config["default"]
    modules = config.target_modules or ()
    return Effective(
        target_modules=(modules,) if isinstance(modules, str) else tuple(sorted({layout.path(m) for m in modules})),
        target_parameters=tuple(sorted(getattr(config, "target_parameters", None) or ())),
    )


# --------------------------------------------------------------------------------------------------- request and answer


def main(asked: Path, answer: Path) -> None:
    """Read the request in the file `asked`, and write its answer into the file `answer`."""
    raw = json.loads(asked.read_text(encoding="utf-8"))
    typed = {"quantization": Quantization(raw["quantization"]), "dtype": LoadDtype(raw["dtype"])}
    answer.write_text(json.dumps(dataclasses.asdict(answered(StageTableRequest(**{**raw, **typed})))), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
