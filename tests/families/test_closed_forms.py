"""The closed forms of `compat census`, compared with models that are created, saved, loaded, quantized, prepared and
wrapped.

Runs inside a stack's environment: nox -s "compat-3.11(trl='0.22')" -- --closed-forms

Every shipped family is made tiny, with its own config except the sizes, and takes the way of a user's model. The counts
of the census instrument must equal the stage table of the same config. Families that this stack's Transformers lacks
have a test that says so.
"""

from __future__ import annotations

import dataclasses
import faulthandler
import functools
import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from finetune_compat.cell import adapt, alike, meta
from finetune_compat.cell.alike import Layout
from finetune_compat.cell.instruments import census
from finetune_compat.cell.stage_table import answered
from finetune_compat.contract.census import (
    CannotBuild,
    Inability,
    LoadDtype,
    Quantization,
    StageTable,
    StageTableRequest,
    WeightKind,
)
from finetune_compat.contract.records import Actor, Area, Census, Stage
from packaging.version import Version
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

FAMILIES: dict[str, dict[str, Any]] = {
    file.stem: json.loads(file.read_text(encoding="utf-8"))
    for file in sorted(Path(meta.__file__).parents[1].joinpath("census", "configs").glob("*.json"))
}


def since(version: str) -> bool:
    """Whether this Transformers is that release or a later one."""
    return Version(transformers.__version__) >= Version(version)


PRESENT = [name for name, family in FAMILIES.items() if since(family["since"])]
ABSENT = [name for name in FAMILIES if name not in PRESENT]

QUANTIZES_ON_A_CPU = since("4.53")
"""Earlier releases refuse to load a quantized model without a GPU, each in another way."""

SMALL = {
    # All sizes differ, so that none can be mistaken for another.
    "hidden_size": 64,
    "intermediate_size": 96,
    "moe_intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 128,
    "num_experts": 5,
    "num_local_experts": 5,
    "num_experts_per_tok": 2,
    "max_window_layers": 3,
    # Token ids must be in the vocabulary.
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "image_token_id": 3,
    "video_token_id": 4,
    "vision_start_token_id": 5,
    "vision_end_token_id": 6,
    "vision_token_id": 7,
    "image_token_index": 3,
    "boi_token_index": 4,
    "eoi_token_index": 5,
}
SMALL_VISION = {
    "depth": 2,
    "embed_dim": 32,
    "hidden_size": 32,
    "intermediate_size": 48,
    "out_hidden_size": 64,
    "num_heads": 2,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "image_size": 28,
    "fullatt_block_indexes": [1],
}

SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LORA = {"r": 4, "lora_alpha": 8, "target_modules": SEVEN}


def tiny(config: Mapping[str, Any], sizes: Mapping[str, Any] = SMALL) -> dict[str, Any]:
    """The config with small sizes; everything else is unchanged."""
    made: dict[str, Any] = {}
    for key, value in config.items():
        if key == "vision_config":
            # Qwen2-VL's `hidden_size` of the encoder is the width of its output.
            out = {"hidden_size": SMALL["hidden_size"]} if "embed_dim" in value else {}
            made[key] = tiny(value, {**SMALL_VISION, **out})
        elif key == "text_config":
            made[key] = tiny(value)
        else:
            made[key] = sizes.get(key, value)
    return made


@dataclasses.dataclass(frozen=True)
class Saved:
    """A tiny model on disk."""

    folder: Path
    cls: Any

    @property
    def config(self) -> dict[str, Any]:
        """Its `config.json`, as this version of Transformers wrote it."""
        raw: dict[str, Any] = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        return raw


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Create the tiny model of a family once."""

    @functools.cache
    def make(name: str) -> Saved:
        config = meta.config_of(tiny(FAMILIES[name]["config"]))
        cls = meta.class_of(config)
        folder = tmp_path_factory.mktemp(name)
        torch.manual_seed(0)
        cls(config).to(torch.bfloat16).save_pretrained(folder)
        return Saved(folder, cls)

    return make


def loaded(model: Saved, quantization: Quantization) -> Any:
    """Load the saved model with `from_pretrained`."""
    options: dict[str, Any] = {adapt._dtype_name(): torch.bfloat16, "device_map": {"": "cpu"}}
    if quantization is not Quantization.NONE:
        options["quantization_config"] = meta._bnb_config(quantization, torch.bfloat16)
    return model.cls.from_pretrained(model.folder, **options)


def asked(
    config: Mapping[str, Any],
    quantization: Quantization,
    lora: Mapping[str, Any] = LORA,
    *,
    layers_alike: bool = False,
) -> StageTable:
    """Return the stage table of a config."""
    answer = answered(StageTableRequest(config, lora, quantization, LoadDtype.BF16, layers_alike))
    assert isinstance(answer, StageTable)
    return answer


def measured(model: Any, quantization: Quantization, lora: Mapping[str, Any] = LORA) -> list[Census]:
    """Return censuses of a loaded model at every stage, taken by the instrument that measures cells."""
    taken = [census.take(model, Stage.LOAD, Actor.FLOW, digest=False)]
    if quantization is not Quantization.NONE:
        model = prepare_model_for_kbit_training(model)
        taken.append(census.take(model, Stage.PREPARE, Actor.FLOW, digest=False))
    wrapped = get_peft_model(model, LoraConfig(**lora))
    return [*taken, census.take(wrapped, Stage.PEFT, Actor.FLOW, digest=False)]


FIGURES = ("trainable", "total", "trainable_logical", "total_logical", "by_area", "adapters_on", "dtypes")


def figures(counts: Any) -> dict[Stage, dict[str, Any]]:
    """Return all counts of a census or a stage table, by stage."""
    return {
        count.stage if hasattr(count, "stage") else count.name: {name: getattr(count, name) for name in FIGURES}
        for count in counts
    }


# ------------------------------------------------------------------------------------------ families, in each precision


@pytest.mark.parametrize("quantization", list(Quantization))
@pytest.mark.parametrize("name", PRESENT)
def test_the_stage_table_is_what_a_loaded_model_measures(saved: Any, name: str, quantization: Quantization) -> None:
    """Stored and logical counts are equal by area and by dtype, at load, prepare and peft.

    Where no quantized model loads on a CPU, the unpacked table is that of the unquantized model.
    """
    model = saved(name)
    table = asked(model.config, quantization)
    if quantization is not Quantization.NONE and not QUANTIZES_ON_A_CPU:
        # 4.46 fails inside its own check of bitsandbytes, 4.38 finds no bitsandbytes without a GPU, 4.51 reports it.
        with pytest.raises((RuntimeError, AttributeError, ImportError)):
            loaded(model, quantization)
        _held_against(table, asked(model.config, Quantization.NONE))
        return
    assert figures(table.stages) == figures(measured(loaded(model, quantization), quantization))


def _held_against(quantized: StageTable, full: StageTable) -> None:
    """Unpacked, the models and their adapters are the same."""
    if quantized.refusal is not None:
        # PEFT 0.13 uses something that bitsandbytes 0.47 removed, on any device.
        assert "'memory_efficient_backward'" in quantized.refusal.message
        return
    assert quantized.stages[-1].total_logical == full.stages[-1].total_logical
    assert quantized.stages[-1].trainable == full.stages[-1].trainable


@pytest.mark.parametrize("name", PRESENT)
def test_a_shipped_config_counts_like_the_one_transformers_writes(saved: Any, name: str) -> None:
    """Old configs spell some options differently; the numbers are the same."""
    shipped = asked(tiny(FAMILIES[name]["config"]), Quantization.NF4)
    written = asked(saved(name).config, Quantization.NF4)
    assert dataclasses.replace(shipped, work_s=0) == dataclasses.replace(written, work_s=0)


@pytest.mark.parametrize("name", [f"{name} needs Transformers {FAMILIES[name]['since']}" for name in ABSENT])
def test_a_family_that_is_absent_is_really_absent(name: str) -> None:
    """This Transformers has no class for it or cannot read its config, and the answer says so."""
    family = FAMILIES[name.partition(" needs ")[0]]
    answer = answered(StageTableRequest(family["config"], LORA, Quantization.NF4, LoadDtype.BF16, layers_alike=False))
    assert isinstance(answer, Inability)
    assert answer.transformers == transformers.__version__
    if answer.why is CannotBuild.NO_CLASS:
        assert not hasattr(transformers, family["config"]["architectures"][0])
        assert answer.message == f"model type {family['config']['model_type']!r}"


# --------------------------------------------------------------------------------------------------------- at full size


@pytest.mark.parametrize("name", PRESENT)
def test_a_public_model_has_the_parameters_its_hub_page_states(name: str) -> None:
    """The number is exact."""
    family = FAMILIES[name]
    table = asked(family["config"], Quantization.NF4, layers_alike=family["layers_alike"])
    assert table.stages[0].total_logical == family["parameters"]


@pytest.mark.parametrize("name", [name for name in ("qwen2-vl-7b",) if name in PRESENT])
def test_the_reported_model_has_the_figures_users_saw(name: str) -> None:
    """r=64 on seven projections: 161,480,704 of 8,452,856,320, or of 4.85 packed; 23 % of a load in 4 bits, 1.1B."""
    table = asked(FAMILIES[name]["config"], Quantization.NF4, {"r": 64, "lora_alpha": 16, "target_modules": SEVEN})
    load, prepare, wrapped = table.stages
    biases = 506_368 if since("5.0") else 0
    assert (load.trainable, load.total, load.total_logical) == (1_091_870_720 + biases, 4_691_876_352, 8_291_375_616)
    assert prepare.trainable == 0
    assert (wrapped.trainable, wrapped.total, wrapped.total_logical) == (161_480_704, 4_853_357_056, 8_452_856_320)
    assert Area.VISION not in wrapped.adapters_on
    found = Counter({weight.leaf: weight.count for weight in table.weights})
    assert (found["q_proj"], found["qkv"], found["fc1"], found["fc2"]) == (28, 32, 32, 32)


@pytest.mark.parametrize(
    ("name", "area"),
    [
        ("model.vision_model.encoder.layers.0.self_attn.q_proj.weight", Area.VISION),  # SmolVLM, Idefics 3, Llama 3.2
        ("model.vision_tower.encoder.layers.0.self_attn.q_proj.weight", Area.VISION),
        ("visual.blocks.0.attn.qkv.weight", Area.VISION),
        ("model.connector.modality_projection.proj.weight", Area.PROJECTOR),
        ("model.multi_modal_projector.linear_1.weight", Area.PROJECTOR),
        ("model.visual.merger.mlp.0.weight", Area.PROJECTOR),
        ("model.text_model.layers.0.self_attn.q_proj.weight", Area.LANGUAGE),
        ("transformer.wte.weight", Area.EMBEDDING),
        ("transformer.word_embeddings.weight", Area.EMBEDDING),
        ("gpt_neox.embed_in.weight", Area.EMBEDDING),
        ("embed_out.weight", Area.HEAD),
        ("lm_head.weight", Area.HEAD),
    ],
)
def test_parts_of_a_model_are_known_by_the_names_families_give_them(name: str, area: Area) -> None:
    """This includes families that are not shipped: any config.json can be counted."""
    assert census.area_of(name) is area


WHOLE_LIMIT_S = 600

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]

# With 18,432 expert layers as modules, wrapping every one takes minutes: all of them are created
# and quantized, and the projections are wrapped in four of the layers.
HUGE = [name for name in PRESENT if FAMILIES[name]["layers_alike"] and not since("5.0")]
WHOLE: list[tuple[str, int | None, list[str]]] = [(name, None, SEVEN) for name in PRESENT if name not in HUGE]
WHOLE += [(name, layers, targets) for name in HUGE for layers, targets in ((None, ATTENTION), (4, SEVEN))]


@pytest.mark.parametrize(("name", "layers", "targets"), WHOLE)
def test_one_layer_counted_for_all_is_all_of_them_counted(
    name: str, layers: int | None, targets: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole model at full size, with every layer and expert created, quantized and prepared, gives the same
    table.
    """
    # This takes 25 s of one core; the usual limit is for tiny models.
    faulthandler.dump_traceback_later(WHOLE_LIMIT_S, exit=True)
    family = FAMILIES[name]
    config = family["config"] if layers is None else {**family["config"], "num_hidden_layers": layers}
    lora = {**LORA, "target_modules": targets}
    thinned = asked(config, Quantization.NF4, lora, layers_alike=family["layers_alike"])
    monkeypatch.setattr(alike, "thin", lambda model, told_apart: Layout({}))
    whole = asked(config, Quantization.NF4, lora)
    assert figures(thinned.stages) == figures(whole.stages)
    assert _alike(thinned) == _alike(whole)


def _alike(table: StageTable) -> Counter[Any]:
    """Count weights of each kind, without their indices."""
    sorts: Counter[Any] = Counter()
    for weight in table.weights:
        sorts[dataclasses.replace(weight, path=weight.leaf, count=1)] += weight.count
    return sorts


# ------------------------------------------------------------------------------------------- whatever LoRA is asked for

VARIETIES: dict[str, dict[str, Any]] = {
    "all-linear": {"target_modules": "all-linear"},
    "regex of two layers": {"target_modules": r".*layers\.[01]\..*(q_proj|down_proj)"},
    "layers_to_transform": {"target_modules": ["q_proj", "up_proj"], "layers_to_transform": [0, 2]},
    "one layer by its name": {"target_modules": ["layers.1.mlp.up_proj", "v_proj"]},
    "rank_pattern": {"target_modules": ["q_proj", "v_proj"], "rank_pattern": {r".*layers\.2\..*q_proj": 8}},
    "modules_to_save": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    "bias": {"target_modules": ["q_proj"], "bias": "lora_only"},
    "inference_mode": {"target_modules": ["q_proj"], "inference_mode": True},
    "DoRA": {"target_modules": ["q_proj"], "use_dora": True},
}


@pytest.mark.parametrize("quantization", [Quantization.NONE, *([Quantization.NF4] if QUANTIZES_ON_A_CPU else [])])
@pytest.mark.parametrize("name", [name for name in ("qwen2-vl-7b", "mixtral-8x7b") if name in PRESENT])
@pytest.mark.parametrize("variety", list(VARIETIES))
def test_every_way_to_name_targets_is_counted_as_peft_does_it(
    saved: Any, variety: str, name: str, quantization: Quantization
) -> None:
    """This includes targets in some layers only; all counted weights add up to what trains. PEFT gives the same error
    with and without weights.
    """
    model, lora = saved(name), {"r": 4, "lora_alpha": 8, **VARIETIES[variety]}
    table = asked(model.config, quantization, lora)
    if table.refusal is not None:
        with pytest.raises(Exception, match=re.escape(table.refusal.message)) as refused:
            measured(loaded(model, quantization), quantization, lora)
        assert type(refused.value).__name__ == table.refusal.type
        return
    assert figures(table.stages) == figures(measured(loaded(model, quantization), quantization, lora))
    beside = sum(weight.count * weight.adapter.trainable for weight in table.weights if weight.adapter)
    assert beside == table.stages[-1].by_area[Area.ADAPTER].trainable


def test_patterns_match_the_modules_that_get_adapters(saved: Any) -> None:
    """The reported matched and adapted modules are those that PEFT wrapped, one by one."""
    model, lora = saved("mistral-7b"), {"r": 4, "target_modules": r".*layers\.[02]\..*(q_proj|down_proj)"}
    table = asked(model.config, Quantization.NONE, lora)
    wrapped = get_peft_model(loaded(model, Quantization.NONE), LoraConfig(**lora))
    real = {name.removeprefix("base_model.model.") for name, m in wrapped.named_modules() if hasattr(m, "lora_A")}
    reported = [weight for weight in table.weights if weight.adapter]
    assert [weight for weight in table.weights if weight.patterns] == reported
    assert {path for weight in reported for path in _each(weight.path)} == real
    assert sum(weight.count for weight in reported) == len(real) == 4


def _each(path: str) -> list[str]:
    """Return the names that a path such as `layers.[0,2].q_proj` stands for."""
    head, bracket, tail = path.partition("[")
    if not bracket:
        return [path]
    inside, _, rest = tail.partition("]")
    runs = [part.partition("-") for part in inside.split(",")]
    indices = [i for first, _, last in runs for i in range(int(first), int(last or first) + 1)]
    return [f"{head}{index}{rest}" for index in indices]


# ---------------------------------------------------------------------------------------- what differs, and why it does


def test_biases_of_quantized_layers_train_after_loading_since_transformers_5(saved: Any) -> None:
    """Transformers 4 leaves them frozen by the replaced layer; 5 creates every parameter again. Qwen2.5 has a bias on
    q, k and v: 64 + 2 * 2 * 16 in each of 3 layers.
    """
    biases, model = 3 * (64 + 2 * 2 * 16), saved("qwen2.5-7b")
    load = asked(model.config, Quantization.NF4).stages[0]
    assert load.by_area[Area.LANGUAGE].trainable == (biases if since("5.0") else 0)
    if QUANTIZES_ON_A_CPU:
        parameters = loaded(model, Quantization.NF4).named_parameters()
        real = [parameter for name, parameter in parameters if name.endswith("_proj.bias")]
        assert sum(parameter.numel() for parameter in real) == biases
        assert {parameter.requires_grad for parameter in real} == {since("5.0")}


@pytest.mark.parametrize("name", [name for name in ("qwen2-vl-7b",) if name in PRESENT])
def test_the_parts_of_a_vision_language_model_are_where_this_version_puts_them(saved: Any, name: str) -> None:
    """`model` and `visual` are siblings before Transformers 4.52, and both inside `model` since."""
    paths = {weight.leaf: weight.path for weight in asked(saved(name).config, Quantization.NF4).weights}
    inside = ("model.language_model.", "model.visual.") if since("4.52") else ("model.", "visual.")
    assert paths["q_proj"] == f"{inside[0]}layers.[0-2].self_attn.q_proj"
    assert paths["qkv"] == f"{inside[1]}blocks.[0-1].attn.qkv"


def test_experts_are_linear_layers_in_transformers_4_and_one_tensor_in_5(saved: Any) -> None:
    """In 5 bitsandbytes does not quantize them: 3 layers of 5 experts of 3 matrices of 96 x 64."""
    experts = [w for w in asked(saved("mixtral-8x7b").config, Quantization.NF4).weights if "experts" in w.path]
    assert sum(weight.elements for weight in experts) == 3 * 5 * 3 * 96 * 64
    stacked = since("5.0")
    assert {w.kind for w in experts} == {WeightKind.PARAMETER if stacked else WeightKind.LINEAR}
    assert {w.quantized for w in experts} == {not stacked}


@pytest.mark.parametrize("name", [name for name in ("qwen3-30b-a3b",) if name in PRESENT])
def test_named_projections_of_experts_are_adapted_unless_peft_cannot_translate(saved: Any, name: str) -> None:
    """Linear layers match by name; one tensor does not, until PEFT 0.19 translates the names, with the rank doubled
    where two matrices became one: r * ((64 + 32) * 2 + (32 + 64)) per expert, or r * (2 * (64 + 64) + (32 + 64)).
    """
    table = asked(saved(name).config, Quantization.NONE)
    counted = sum(w.count * w.adapter.trainable for w in table.weights if "experts" in w.path and w.adapter)
    each = 3 * 5 * 4
    if not since("5.0"):
        assert counted == each * ((64 + 32) * 2 + (32 + 64))
    else:
        translated = Version(peft.__version__) >= Version("0.19")
        assert counted == (each * (2 * (64 + 64) + (32 + 64)) if translated else 0)


def test_a_config_that_fits_no_model_is_rejected_and_not_counted() -> None:
    """The message is Transformers'."""
    config = tiny(FAMILIES["mistral-7b"]["config"]) | {"hidden_size": "wide"}
    answer = answered(StageTableRequest(config, LORA, Quantization.NONE, LoadDtype.BF16, layers_alike=False))
    assert isinstance(answer, Inability)
    assert answer.why is CannotBuild.REJECTED


def test_a_refusal_of_peft_is_a_result(saved: Any) -> None:
    """The stages before it are counted."""
    table = asked(saved("mistral-7b").config, Quantization.NONE, {"r": 4, "target_modules": ["nowhere"]})
    assert table.refusal is not None
    assert "nowhere" in table.refusal.message
    assert [count.stage for count in table.stages] == [Stage.LOAD]
