"""Faults of LoRA layers, and of saved and reloaded weights."""

from __future__ import annotations

import functools
from typing import Any

import peft.peft_model
import pytest
import torch
from effects import answers_differ, base_moved, reload_differs, still
from peft import PeftModel
from peft.tuners.lora import LoraLayer, LoraModel
from registry import ADAPTER, FOUR_BIT, WHOLE_MODEL, around, fault
from transformers import PreTrainedModel, Trainer
from truth import Truth


def _scales_differ(healthy: Truth, faulty: Truth) -> str | None:
    scales = [set(truth.scales.values()) for truth in (healthy, faulty)]
    return f"LoRA scales by {scales[1]} instead of {scales[0]}" if scales[0] != scales[1] else None


def _after_update(patch: pytest.MonkeyPatch, change: Any) -> None:
    """Call `change(layer, adapter)` when a LoRA layer got an adapter."""

    def update(original: Any, layer: Any, name: str, *args: Any, **kwargs: Any) -> None:
        original(layer, name, *args, **kwargs)
        change(layer, name)

    around(patch, LoraLayer, "update_layer", update)


@fault(
    kind="wrong LoRA scaling",
    source="https://github.com/Blaizzy/mlx-vlm/pull/986",
    cell=ADAPTER,
    effect=_scales_differ,
)
def scaling_not_divided_by_rank(patch: pytest.MonkeyPatch) -> None:
    """LoRA scales by alpha instead of alpha / r."""
    _after_update(patch, lambda layer, name: layer.scaling.update({name: float(layer.lora_alpha[name])}))


@fault(
    kind="wrong LoRA scaling",
    source="https://github.com/huggingface/peft/issues/2733",
    cell=ADAPTER,
    effect=_scales_differ,
)
def scaling_by_root_of_rank(patch: pytest.MonkeyPatch) -> None:
    """LoRA scales by alpha over the square root of r, although rank stabilization was not asked for."""
    _after_update(
        patch, lambda layer, name: layer.scaling.update({name: layer.lora_alpha[name] / layer.r[name] ** 0.5})
    )


@fault(
    kind="B not zero at the start",
    source="https://github.com/hao-ai-lab/FastVideo/pull/781",
    cell=ADAPTER,
    effect=answers_differ("at_start"),
)
def second_matrix_starts_random(patch: pytest.MonkeyPatch) -> None:
    """Both matrices of LoRA start random: the adapter changes the model before any training."""

    def random(layer: Any, name: str) -> None:
        torch.nn.init.kaiming_uniform_(layer.lora_B[name].weight, a=5**0.5)

    _after_update(patch, random)


def _fewer_layers(healthy: Truth, faulty: Truth) -> str | None:
    counts = [len(truth.scales) for truth in (healthy, faulty)]
    return f"{counts[1]} of {counts[0]} layers have an adapter" if counts[1] < counts[0] else None


@fault(
    kind="adapter on fewer layers",
    source="https://github.com/huggingface/peft/issues/3554",
    cell=ADAPTER,
    effect=_fewer_layers,
)
def layers_silently_skipped(patch: pytest.MonkeyPatch) -> None:
    """The targets match in the first layer of the model only, without a word about the others."""

    def replace(original: Any, model: Any, *args: Any, **kwargs: Any) -> None:
        names = [value for value in (*args, *kwargs.values()) if isinstance(value, str)]
        if not any("layers.1." in name for name in names):
            original(model, *args, **kwargs)

    around(patch, LoraModel, "_create_and_replace", replace)


@fault(
    kind="adapter of another name active",
    source="https://github.com/huggingface/peft/issues/3580",
    cell=ADAPTER,
    effect=still("default"),
)
def another_adapter_trained(patch: pytest.MonkeyPatch) -> None:
    """A second adapter is active in training, and the one that is saved never changes."""
    models = 0

    def init(original: Any, model: Any, base: Any, config: Any, *args: Any, **kwargs: Any) -> None:
        nonlocal models
        original(model, base, config, *args, **kwargs)
        models += 1
        if models == 1:
            model.add_adapter("other", config)
            model.set_adapter("other")

    around(patch, PeftModel, "__init__", init)


@fault(
    kind="base weights updated",
    source="https://github.com/huggingface/peft/pull/1370",
    cell=ADAPTER,
    effect=base_moved,
)
def base_rounded_by_merging(patch: pytest.MonkeyPatch) -> None:
    """Adapters are merged and unmerged at every step, and each time the base weights are rounded."""

    def step(original: Any, trainer: Any, *args: Any, **kwargs: Any) -> Any:
        with torch.no_grad():
            for module in trainer.model.modules():
                if isinstance(module, LoraLayer):
                    weight = module.get_base_layer().weight
                    weight.copy_(weight.bfloat16())
        return original(trainer, *args, **kwargs)

    around(patch, Trainer, "training_step", step)


def _adapter_dtypes_differ(healthy: Truth, faulty: Truth) -> str | None:
    dtypes = [{str(truth.before[name].dtype) for name in truth.trained} for truth in (healthy, faulty)]
    return f"adapters are {dtypes[1]} instead of {dtypes[0]}" if dtypes[0] != dtypes[1] else None


@fault(
    kind="dtype cast silently",
    source="https://github.com/huggingface/peft/issues/1090",
    cell=ADAPTER,
    effect=_adapter_dtypes_differ,
)
def adapter_cast_to_low_precision(patch: pytest.MonkeyPatch) -> None:
    """The trainer casts adapters to bfloat16, although the model is float32."""

    def init(original: Any, trainer: Any, *args: Any, **kwargs: Any) -> None:
        original(trainer, *args, **kwargs)
        for module in trainer.model.modules():
            if isinstance(module, LoraLayer):
                module.lora_A.to(torch.bfloat16)
                module.lora_B.to(torch.bfloat16)

    around(patch, Trainer, "__init__", init)


# ------------------------------------------------------------------------------------------------------------- saving


def _save(patch: pytest.MonkeyPatch, change: Any) -> None:
    """Save `change(weights)` in place of the adapter's weights."""

    def state(original: Any, *args: Any, **kwargs: Any) -> Any:
        return change(original(*args, **kwargs))

    around(patch, peft.peft_model, "get_peft_model_state_dict", state)


def _fewer_saved(healthy: Truth, faulty: Truth) -> str | None:
    counts = [len(truth.saved) for truth in (healthy, faulty)]
    return f"{counts[1]} of {counts[0]} tensors are saved" if counts[1] < counts[0] else None


@fault(
    kind="saved adapter lacks keys",
    source="https://github.com/tloen/alpaca-lora/issues/293",
    cell=ADAPTER,
    effect=_fewer_saved,
)
def adapter_saved_empty(patch: pytest.MonkeyPatch) -> None:
    """The saved adapter holds no weights."""
    _save(patch, lambda weights: {})


@fault(
    kind="saved adapter lacks keys",
    source="https://github.com/huggingface/peft/issues/2772",
    cell=ADAPTER,
    effect=_fewer_saved,
)
def adapter_saved_without_some_keys(patch: pytest.MonkeyPatch) -> None:
    """Weights of some modules are missing in the saved adapter."""
    _save(patch, lambda weights: {name: value for name, value in weights.items() if "layers.1.mlp" not in name})


def _saved_in_other_dtype(healthy: Truth, faulty: Truth) -> str | None:
    dtypes = [{str(value.dtype) for value in truth.saved.values()} for truth in (healthy, faulty)]
    return f"saved as {dtypes[1]} instead of {dtypes[0]}" if dtypes[0] != dtypes[1] else None


@fault(
    kind="saved adapter in other dtype",
    source="https://github.com/huggingface/peft/issues/2421",
    cell=ADAPTER,
    effect=_saved_in_other_dtype,
)
def adapter_saved_in_low_precision(patch: pytest.MonkeyPatch) -> None:
    """The float32 adapter is saved in bfloat16."""
    _save(patch, lambda weights: {name: value.bfloat16() for name, value in weights.items()})


def _saved_alpha_differs(healthy: Truth, faulty: Truth) -> str | None:
    alphas = [truth.saved_config.get("lora_alpha") for truth in (healthy, faulty)]
    return f"alpha is saved as {alphas[1]} instead of {alphas[0]}" if alphas[0] != alphas[1] else None


@fault(
    kind="saved adapter with wrong alpha",
    source="https://github.com/huggingface/peft/pull/654",
    cell=ADAPTER,
    effect=_saved_alpha_differs,
)
def adapter_saved_with_other_alpha(patch: pytest.MonkeyPatch) -> None:
    """The saved configuration has r in place of alpha."""

    def save(original: Any, config: Any, *args: Any, **kwargs: Any) -> Any:
        alpha, config.lora_alpha = config.lora_alpha, config.r
        try:
            return original(config, *args, **kwargs)
        finally:
            config.lora_alpha = alpha

    around(patch, peft.LoraConfig, "save_pretrained", save)


# ---------------------------------------------------------------------------------------------------------- reloading


@fault(
    kind="reload resets",
    source="https://github.com/hyprstream/hyprstream/issues/1551",
    cell=ADAPTER,
    effect=reload_differs,
)
def scaling_reset_by_reload(patch: pytest.MonkeyPatch) -> None:
    """A reloaded adapter scales by 1, whatever its configuration says."""

    def load(original: Any, *args: Any, **kwargs: Any) -> Any:
        model = original(*args, **kwargs)
        for module in model.modules():
            if isinstance(module, LoraLayer):
                module.scaling.update(dict.fromkeys(module.scaling, 1.0))
        return model

    around(patch, PeftModel, "from_pretrained", load)


@fault(
    kind="reload resets",
    source="https://github.com/huggingface/peft/issues/2699",
    cell=ADAPTER,
    effect=reload_differs,
)
def adapter_reset_by_reload(patch: pytest.MonkeyPatch) -> None:
    """No key of the saved adapter matches the model, which keeps the new weights it was given."""

    def load(original: Any, model: Any, weights: Any, *args: Any, **kwargs: Any) -> Any:
        renamed = {name.replace("lora_", "other_"): value for name, value in weights.items()}
        return original(model, renamed, *args, **kwargs)

    around(patch, peft.peft_model, "set_peft_model_state_dict", load)


def _from_second_load(patch: pytest.MonkeyPatch, change: Any) -> None:
    """Call `change(model)` on every loaded model but the first: on those that are reloaded."""
    loads = 0
    original = PreTrainedModel.from_pretrained.__func__

    @functools.wraps(original)
    def load(model_class: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal loads
        model = original(model_class, *args, **kwargs)
        loads += 1
        if loads > 1:
            change(model)
        return model

    patch.setattr(PreTrainedModel, "from_pretrained", classmethod(load))


@fault(
    kind="quantization state corrupted at reload",
    source="https://github.com/bitsandbytes-foundation/bitsandbytes/issues/1946",
    cell=FOUR_BIT,
    effect=reload_differs,
)
def quantization_state_stale_at_reload(patch: pytest.MonkeyPatch) -> None:
    """A reloaded 4-bit layer dequantizes with the block maxima of another state."""

    def corrupt(model: Any) -> None:
        weight = model.model.layers[0].mlp.down_proj.weight
        weight.quant_state.absmax = weight.quant_state.absmax.roll(1)

    _from_second_load(patch, corrupt)


@fault(
    kind="embeddings lost",
    source="https://github.com/huggingface/transformers/pull/45079",
    cell=WHOLE_MODEL,
    effect=reload_differs,
)
def head_initialized_again_at_reload(patch: pytest.MonkeyPatch) -> None:
    """The reloaded model initializes its trained head again."""

    def forget(model: Any) -> None:
        with torch.no_grad():
            model.lm_head.weight.normal_(std=0.02, generator=torch.Generator().manual_seed(1))

    _from_second_load(patch, forget)


@fault(
    kind="embeddings lost",
    source="https://github.com/huggingface/peft/issues/1300",
    cell=WHOLE_MODEL,
    effect=reload_differs,
)
def new_tokens_lost_at_reload(patch: pytest.MonkeyPatch) -> None:
    """The reload truncates the embeddings to an older vocabulary, and the tokens after it lose what they learned."""

    def forget(model: Any) -> None:
        with torch.no_grad():
            model.get_input_embeddings().weight[8:].zero_()

    _from_second_load(patch, forget)
