"""`compat inspect` on adapters that this stack saves, and its prediction of loading, compared with really loading them.

Runs inside a stack's environment: nox -s "compat-3.11(trl='0.22')" -- --adapters
"""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from conftest import Inspected
from finetune_compat.cell import adapt, execution
from finetune_compat.cell.adapter_loading import answer_to
from finetune_compat.cell.objectives import sft
from finetune_compat.cell.setup import Setup
from finetune_compat.contract.catalog import LORA, QWEN2, flow_named
from finetune_compat.contract.plan import Plan, PlannedCell
from finetune_compat.contract.records import Precision, Variant
from packaging.version import Version
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2ForSequenceClassification
from trl import SFTTrainer

Inspect = Callable[[Path], Inspected]
Tensors = dict[str, torch.Tensor]

VARIANT = Variant(QWEN2, Precision.FULL, gradient_checkpointing=True)
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
FROZEN_WHEN_RELOADED = "S101"
PERHAPS_EXCLUDED = "S110"
NOT_JUDGED_IN_DEPTH, NOT_TRAINABLE = "S106", "S111"


def prepared(plan: Plan, flow: str) -> Setup:
    """Prepare the setup of a cell of `flow`."""
    return execution.prepared(plan, PlannedCell(flow, VARIANT, ()), flow_named(flow))


def with_values(model: torch.nn.Module) -> torch.nn.Module:
    """A model with an adapter as an earlier run leaves it."""
    adapt.pretend_trained(model, 0)
    return model


# ------------------------------------------------------------------------------------------------------------ training


def test_a_trained_adapter_is_healthy_and_before_training_it_is_not(
    plan: Plan, inspected: Inspect, tmp_path: Path
) -> None:
    """The same trainer saves both; the numbers are those of the closed form: 14 modules, 16,384 elements, alpha / r."""
    given = prepared(plan, "sft-peft-config")
    trainer = SFTTrainer(model=adapt.load_model(given), peft_config=adapt.lora_config(given), **sft.arguments(given))
    trainer.save_model(str(tmp_path / "before"))
    trainer.train()
    trainer.save_model(str(tmp_path / "after"))

    before, after = inspected(tmp_path / "before"), inspected(tmp_path / "after")
    assert (before.code, before.found) == (1, ["S204", FROZEN_WHEN_RELOADED])
    assert (after.code, after.found) == (0, [FROZEN_WHEN_RELOADED])
    classes = {facts["name"]: facts for facts in after.told["classes"]}
    assert {name: facts["tensors"] for name, facts in classes.items()} == {"lora_A": 14, "lora_B": 14}
    assert sum(facts["elements"] for facts in classes.values()) == 16_384
    assert {(module["rank_asked"], module["scaling"]) for module in after.told["modules"]} == {
        (LORA.r, LORA.alpha / LORA.r)
    }
    assert all(module["targeted"] for module in after.told["modules"])


def test_a_flow_that_trains_nothing_saves_an_adapter_with_a_finding(
    plan: Plan, inspected: Inspect, tmp_path: Path
) -> None:
    """The trainer runs to its end, and the saved adapter has a finding: inference mode, read from the saved
    configuration.
    """
    given = prepared(plan, "sft-inference-mode-config")
    get_peft_model(adapt.load_model(given), adapt.lora_config(given)).save_pretrained(str(tmp_path / "earlier"))
    config = LoraConfig.from_pretrained(str(tmp_path / "earlier"))
    trainer = SFTTrainer(model=adapt.load_model(given), peft_config=config, **sft.arguments(given))
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    seen = inspected(tmp_path / "saved")
    assert (seen.code, seen.found) == (1, ["S204", FROZEN_WHEN_RELOADED])
    named = seen.told["findings"][0]
    assert "sft-inference-mode-config" in named["flows"]


def trainable(model: torch.nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def test_inference_mode_is_saved_whatever_the_adapter_was_doing(plan: Plan, inspected: Inspect, tmp_path: Path) -> None:
    """In memory it stays false. The saved value freezes an adapter made from the configuration, and does not matter
    when an adapter is loaded: there only `is_trainable` counts.
    """
    given = prepared(plan, "sft-peft-model")
    model = with_values(get_peft_model(adapt.load_model(given), adapt.lora_config(given)))
    model.save_pretrained(str(tmp_path))
    assert model.peft_config["default"].inference_mode is False
    assert json.loads((tmp_path / CONFIG).read_text())["inference_mode"] is True
    assert inspected(tmp_path).found == [FROZEN_WHEN_RELOADED]

    def reloaded(**options: Any) -> int:
        return trainable(PeftModel.from_pretrained(adapt.load_model(given), str(tmp_path), **options))

    assert trainable(get_peft_model(adapt.load_model(given), LoraConfig.from_pretrained(str(tmp_path)))) == 0
    assert (reloaded(), reloaded(is_trainable=True)) == (0, 16_384)
    config = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps({**config, "inference_mode": False}))
    assert FROZEN_WHEN_RELOADED not in inspected(tmp_path).found
    assert (reloaded(), reloaded(is_trainable=True)) == (0, 16_384)


# ------------------------------------------------------------------------------------------------------------- loading


def tiny(**options: Any) -> Qwen2Config:
    """A tiny Qwen2."""
    return Qwen2Config(
        vocab_size=128,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        pad_token_id=0,
        tie_word_embeddings=False,
        **options,
    )


def causal() -> torch.nn.Module:
    """A causal language model."""
    torch.manual_seed(0)
    return Qwen2ForCausalLM(tiny())


def classifier() -> torch.nn.Module:
    """A model with a head for three labels."""
    torch.manual_seed(0)
    return Qwen2ForSequenceClassification(tiny(num_labels=3))


def tensors_of(directory: Path) -> Tensors:
    """Return the saved tensors."""
    return load_file(str(directory / WEIGHTS))


def asked(base: torch.nn.Module, directory: Path) -> dict[str, Any]:
    """Return the result of loading without weights."""
    dtypes = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
    return answer_to(
        {
            "adapter": json.loads((directory / CONFIG).read_text()),
            "tensors": {name: [dtypes[t.dtype], list(t.shape)] for name, t in tensors_of(directory).items()},
            "base": {**base.config.to_dict(), "architectures": [type(base).__name__]},
        }
    )


KINDS: dict[str, tuple[Callable[[], torch.nn.Module], dict[str, Any]]] = {
    "lora": (causal, {"target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}),
    "all-linear, rsLoRA": (causal, {"target_modules": "all-linear", "use_rslora": True}),
    "expression, patterns": (
        causal,
        {
            "target_modules": r".*self_attn\.[qv]_proj",
            "rank_pattern": {"q_proj": 4},
            "alpha_pattern": {"v_proj": 3},
        },
    ),
    "DoRA": (causal, {"target_modules": ["q_proj", "down_proj"], "use_dora": True}),
    "embeddings": (causal, {"target_modules": ["q_proj", "embed_tokens", "lm_head"]}),
    "modules_to_save": (causal, {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "norm"]}),
    "all biases": (causal, {"target_modules": ["q_proj"], "bias": "all"}),
    "some layers": (causal, {"target_modules": ["q_proj"], "layers_to_transform": [1]}),
    "layers of short names alone": (
        causal,
        {"target_modules": ["model.layers.0.self_attn.q_proj", "v_proj"], "layers_to_transform": [1]},
    ),
    "targets inside modules_to_save": (
        causal,
        {"target_modules": ["q_proj", "model.layers.0.mlp.up_proj"], "modules_to_save": ["mlp"]},
    ),
    "all-linear, names excluded": (causal, {"target_modules": "all-linear", "exclude_modules": ["down_proj"]}),
    "all-linear, expression excluded": (
        causal,
        {"target_modules": "all-linear", "exclude_modules": r".*\.mlp\.(up|down)_proj"},
    ),
    "names, names excluded": (
        causal,
        {"target_modules": ["q_proj", "down_proj"], "exclude_modules": ["down_proj"]},
    ),
    "names, whole names excluded": (
        causal,
        {
            "target_modules": ["q_proj", "down_proj"],
            "exclude_modules": ["model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj"],
        },
    ),
    "names, expression excluded": (
        causal,
        {"target_modules": ["q_proj", "down_proj"], "exclude_modules": r".*\.mlp\..*"},
    ),
    "expression, expression excluded": (causal, {"target_modules": r".*_proj", "exclude_modules": r".*[kv]_proj"}),
    "some modules of a name excluded": (
        causal,
        {"target_modules": ["q_proj"], "exclude_modules": ["model.layers.1.self_attn.q_proj"]},
    ),
    "classification": (classifier, {"target_modules": ["q_proj"], "task_type": "SEQ_CLS"}),
}


UNDECIDED = ("names, whole names excluded", "names, expression excluded")
"""Kinds whose names do not show, without the base model, whether a target is excluded."""


def with_every_class_trained(model: torch.nn.Module) -> torch.nn.Module:
    """Change every parameter of the adapter from its initial value."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_adapter_the_stack_saves_is_healthy_and_loads(
    inspected: Inspect, tmp_path: Path, kind: str
) -> None:
    """There are only notes, every tensor has a place, and every parameter has a tensor."""
    base, options = KINDS[kind]
    with_every_class_trained(get_peft_model(base(), LoraConfig(r=8, **options))).save_pretrained(str(tmp_path))
    seen = inspected(tmp_path)
    assert seen.code == 0, seen.told["findings"]
    assert set(seen.found) <= {FROZEN_WHEN_RELOADED, "S105", *([PERHAPS_EXCLUDED] if kind in UNDECIDED else [])}
    answer = asked(base(), tmp_path)
    assert answer["base"] == type(base()).__name__
    assert (answer["error"], answer["missing"], answer["unexpected"], answer["mismatched"]) == ("", [], [], [])
    assert answer["fitting"] == len(tensors_of(tmp_path))
    assert answer["unknown_options"] == []


TOKENS = {"task_type": "CAUSAL_LM", "num_virtual_tokens": 4}
ENCODER = {**TOKENS, "encoder_hidden_size": 16}
PROMPTS: dict[str, tuple[str, dict[str, Any]]] = {
    "prompt": ("PromptTuningConfig", TOKENS),
    "prompt, words of the vocabulary": ("PromptTuningConfig", {**TOKENS, "prompt_tuning_init": "SAMPLE_VOCAB"}),
    "prompt, a head saved whole": ("PromptTuningConfig", {**TOKENS, "modules_to_save": ["lm_head"]}),
    "prefix": ("PrefixTuningConfig", TOKENS),
    "prefix, projected": ("PrefixTuningConfig", {**ENCODER, "prefix_projection": True}),
    "P-tuning": ("PromptEncoderConfig", ENCODER),
    "P-tuning, LSTM": ("PromptEncoderConfig", {**ENCODER, "encoder_reparameterization_type": "LSTM"}),
    "multitask": ("MultitaskPromptTuningConfig", {**TOKENS, "num_tasks": 2}),
    "context": (
        "CPTConfig",
        {
            "task_type": "CAUSAL_LM",
            "cpt_token_ids": [1, 2, 3, 4],
            "cpt_mask": [1, 1, 1, 1],
            "cpt_tokens_type_mask": [1, 2, 3, 4],
        },
    ),
    "cartridge": ("CartridgeConfig", {**TOKENS, "num_frozen_tokens": 1}),
}
"""Methods that learn virtual tokens: the class of the configuration, and its arguments."""


def known_here(name: str, options: Mapping[str, Any]) -> bool:
    """Whether this stack's PEFT has this configuration with all of these options."""
    config = getattr(peft, name, None)
    return config is not None and set(options) <= {field.name for field in dataclasses.fields(config)}


HERE = [kind for kind, (name, options) in PROMPTS.items() if known_here(name, options)]


def test_prompt_prefix_and_p_tuning_are_tried_on_every_stack() -> None:
    """Only newer methods and options may be skipped."""
    since_the_first = {"prompt", "prefix", "prefix, projected", "P-tuning", "P-tuning, LSTM", "multitask"}
    assert since_the_first <= set(HERE)


def prompt_saved(kind: str, directory: Path) -> None:
    """Save a trained adapter of `kind`."""
    name, options = PROMPTS[kind]
    with_every_class_trained(get_peft_model(causal(), getattr(peft, name)(**options))).save_pretrained(str(directory))


@pytest.mark.parametrize("kind", HERE)
def test_every_prompt_the_stack_saves_is_healthy_and_loads(inspected: Inspect, tmp_path: Path, kind: str) -> None:
    """PEFT refuses to load a prompt as trainable, so they are loaded for inference."""
    prompt_saved(kind, tmp_path)
    seen = inspected(tmp_path)
    assert (seen.code, set(seen.found)) == (0, {NOT_JUDGED_IN_DEPTH, NOT_TRAINABLE})
    with pytest.raises(ValueError, match="Cannot set a prompt learning adapter to trainable"):
        PeftModel.from_pretrained(causal(), str(tmp_path), is_trainable=True)
    answer = asked(causal(), tmp_path)
    assert (answer["error"], answer["missing"], answer["unexpected"], answer["mismatched"]) == ("", [], [], [])
    assert answer["fitting"] == len(tensors_of(tmp_path))


@pytest.mark.parametrize("kind", HERE)
def test_a_prompt_that_does_not_load_is_named(tmp_path: Path, kind: str) -> None:
    """The prompt is missing, has another length, or has an additional tensor."""
    prompt_saved(kind, tmp_path)
    whole, shape = tensors_of(tmp_path), list(tensors_of(tmp_path)["prompt_embeddings"].shape)
    rewritten(tmp_path, lambda tensors: {**tensors, "prompt_embeddings": tensors["prompt_embeddings"][1:]}, {})
    shorter = asked(causal(), tmp_path)
    assert shorter["mismatched"] == [("prompt_embeddings", (shape[0] - 1, shape[1]), tuple(shape))]
    assert (shorter["error"], bool(really_loaded(causal(), tmp_path).error)) == ("", True)
    rewritten(tmp_path, lambda tensors: {**whole, "of_another": torch.ones(2)}, {})
    assert asked(causal(), tmp_path)["unexpected"] == ["of_another"]
    rewritten(tmp_path, lambda tensors: {n: t for n, t in tensors.items() if n != "prompt_embeddings"}, {})
    lost = asked(causal(), tmp_path)
    assert (lost["missing"], lost["error"]) == (["prompt_embeddings"], really_loaded(causal(), tmp_path).error)


def test_an_initial_prompt_of_another_file_is_not_read(tmp_path: Path) -> None:
    """The file is elsewhere, may be a pickle, and changes no shape."""
    prompt_saved("multitask", tmp_path)
    elsewhere = {
        "prompt_tuning_init": "EXACT_SOURCE_TASK",
        "prompt_tuning_init_state_dict_path": str(tmp_path / "of_another_machine.bin"),
    }
    rewritten(tmp_path, lambda tensors: tensors, elsewhere)
    answer = asked(causal(), tmp_path)
    assert (answer["error"], answer["fitting"], answer["missing"], answer["mismatched"]) == ("", 3, [], [])


def test_a_prompt_of_another_width_than_the_base_is_named(tmp_path: Path) -> None:
    """It loads, and the first forward pass fails."""
    prompt_saved("prompt", tmp_path)
    wider = Qwen2Config(**{**tiny().to_dict(), "hidden_size": 128})
    answer = asked(Qwen2ForCausalLM(wider), tmp_path)
    assert answer["mismatched"] == [("prompt_embeddings", (4, 64), (4, 128))]
    loaded = PeftModel.from_pretrained(Qwen2ForCausalLM(wider), str(tmp_path))
    with pytest.raises(RuntimeError, match="Sizes of tensors must match"):
        loaded(input_ids=torch.ones(1, 3, dtype=torch.long))


@dataclass(frozen=True)
class Loaded:
    """The result of really loading an adapter."""

    zero: frozenset[str] = frozenset()
    """Modules with an update of zero afterwards: lora_B was not found, because every saved one has values."""
    error: str = ""


def really_loaded(base: torch.nn.Module, directory: Path) -> Loaded:
    """Load it as a user does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = PeftModel.from_pretrained(base, str(directory))
        except Exception as error:  # noqa: BLE001 - every exception of the library is compared
            return Loaded(error=f"{type(error).__name__}: {error}")
    parameters = model.named_parameters()
    return Loaded(frozenset(module_of(name) for name, tensor in parameters if "lora_B" in name and not tensor.any()))


def module_of(name: str) -> str:
    """Return the module of a parameter's name inside a PeftModel."""
    return name.removeprefix("base_model.model.").partition(".lora_")[0]


Change = Callable[[Tensors], Tensors]


def renamed(pattern: str, by: str) -> Change:
    """Rename every tensor."""
    return lambda tensors: {re.sub(pattern, by, name): tensor for name, tensor in tensors.items()}


def kept(part: str) -> Change:
    """Return only tensors whose name has `part`."""
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if part in name}


def doubled(source: str, target: str) -> Change:
    """Add the tensors of other modules."""
    return lambda tensors: tensors | {name.replace(source, target): tensor.clone() for name, tensor in tensors.items()}


BROKEN: dict[str, tuple[Change, dict[str, Any], str]] = {
    # the change of tensors, the change of configuration, and the code of the finding
    "of a compiled base": (renamed(r"^base_model\.model\.", "base_model.model._orig_mod."), {}, "S301"),
    "of a compiled PeftModel": (renamed("^", "_orig_mod."), {}, "S301"),
    "of DistributedDataParallel": (renamed("^", "module."), {}, "S301"),
    "without the prefix": (renamed(r"^base_model\.model\.", ""), {}, "S301"),
    "of a state_dict": (renamed(r"\.weight$", ".default.weight"), {}, "S301"),
    "half of the targets": (kept("q_proj"), {}, "S304"),
    "A alone": (kept("lora_A"), {}, "S302"),
    "targets of another run": (doubled("q_proj", "k_proj"), {}, "S305"),
    "another rank": (lambda tensors: tensors, {"r": 4}, "S303"),
    "not gathered": (lambda tensors: {name: tensor.new_zeros(0) for name, tensor in tensors.items()}, {}, "S202"),
    "DoRA without magnitudes": (lambda tensors: tensors, {"use_dora": True}, "S307"),
    "a head that is not there": (lambda tensors: tensors, {"modules_to_save": ["lm_head"]}, "S306"),
    "whole": (lambda tensors: tensors, {}, ""),
}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A trained adapter."""
    config = LoraConfig(r=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    with_values(get_peft_model(causal(), config)).save_pretrained(str(tmp_path / "saved"))
    return tmp_path / "saved"


def rewritten(directory: Path, change: Change, config: Mapping[str, Any]) -> None:
    """Replace the saved files."""
    changed = {name: tensor.clone() for name, tensor in change(tensors_of(directory)).items()}
    save_file(changed, str(directory / WEIGHTS), {"format": "pt"})
    as_saved = json.loads((directory / CONFIG).read_text())
    (directory / CONFIG).write_text(json.dumps({**as_saved, **config}))


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_adapter_does_not_load_and_the_result_is_predicted(
    inspected: Inspect, saved: Path, fault: str
) -> None:
    """Three results are compared: the findings of the files, the prediction of loading, and really loading."""
    change, config, code = BROKEN[fault]
    rewritten(saved, change, config)
    assert [found for found in inspected(saved).found if found == code] == [code] * bool(code)
    answer, loaded = asked(causal(), saved), really_loaded(causal(), saved)
    size_mismatch = "size mismatch" in loaded.error
    assert bool(answer["mismatched"]) is size_mismatch
    assert answer["error"] == ("" if size_mismatch else loaded.error)
    if not loaded.error:
        assert {module_of(name) for name in answer["missing"] if "lora_B" in name} == loaded.zero
    fine = not any(answer[key] for key in ("error", "missing", "unexpected", "mismatched"))
    # From 0.21 on PEFT understands the adapter's own name inside the file's names.
    assert fine is (fault == "whole" or (fault == "of a state_dict" and not loaded.zero))


def test_an_option_of_another_release_is_named(saved: Path) -> None:
    """This holds whether PEFT refuses the option or ignores it."""
    rewritten(saved, lambda tensors: tensors, {"of_another_release": True, "its_size": 16, "unset": None})
    answer = asked(causal(), saved)
    assert answer["unknown_options"] == ["of_another_release"]
    assert answer["error"] == really_loaded(causal(), saved).error


def test_a_base_that_this_stack_cannot_build_is_an_error(saved: Path) -> None:
    """It is the library's own error, without a finding about the adapter."""
    request = {"adapter": json.loads((saved / CONFIG).read_text()), "tensors": {}}
    answer = answer_to({**request, "base": {"model_type": "of_another_release"}})
    assert answer["base"] == "" and "of_another_release" in answer["error"]
    assert (answer["fitting"], answer["missing"], answer["tied"]) == (0, [], None)


def test_the_module_reads_a_request_and_writes_an_answer(saved: Path, tmp_path: Path) -> None:
    """This is how the host runs it."""
    request = {
        "adapter": json.loads((saved / CONFIG).read_text()),
        "tensors": {name: ["F32", list(tensor.shape)] for name, tensor in tensors_of(saved).items()},
        "base": {**causal().config.to_dict(), "architectures": ["Qwen2ForCausalLM"]},
    }
    (tmp_path / "request").write_text(json.dumps(request))
    command = [
        sys.executable,
        "-m",
        "finetune_compat.cell.adapter_loading",
        str(tmp_path / "request"),
        str(tmp_path / "answer"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    told = json.loads((tmp_path / "answer").read_text())
    assert (told["base"], told["fitting"], told["tied"], told["missing"]) == ("Qwen2ForCausalLM", 8, False, [])
    assert told["versions"]["transformers"] == transformers.__version__


def test_weights_saved_whole_without_a_request_replace_the_bases(inspected: Inspect, saved: Path) -> None:
    """The note says so."""
    rewritten(saved, lambda tensors: {**tensors, "base_model.model.model.norm.weight": torch.full((64,), 5.0)}, {})
    assert "S308" in inspected(saved).found
    loaded = PeftModel.from_pretrained(causal(), str(saved))
    assert bool((loaded.base_model.model.model.norm.weight == 5).all())


def test_a_pickle_is_converted_by_the_line_its_refusal_gives(
    pytestconfig: pytest.Config, inspected: Inspect, saved: Path
) -> None:
    """Run in this stack, it gives the tensors of the pickle."""
    tensors = tensors_of(saved)
    torch.save(tensors, saved / "adapter_model.bin")
    (saved / WEIGHTS).unlink()
    command = [str(pytestconfig.getoption("--host-python")), "-m", "finetune_compat", "inspect", str(saved)]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    line = refused.stderr.splitlines()[-1].strip()
    assert refused.returncode == 4 and line.startswith("python -c ")
    subprocess.run(line.replace("python", sys.executable, 1), shell=True, check=True, cwd=saved)  # noqa: S602 - as told
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in tensors_of(saved).items())
    assert inspected(saved).found == [FROZEN_WHEN_RELOADED, "S108"]


# ---------------------------------------------------------------------------------------------------- other methods

SQUARE: dict[str, Any] = {"target_modules": ["q_proj", "o_proj"], "task_type": "CAUSAL_LM"}
FORWARD = {**SQUARE, "target_modules": ["q_proj", "down_proj"], "feedforward_modules": ["down_proj"]}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "AdaLoRA": ("AdaLoraConfig", {**SQUARE, "total_step": 10}),
    "BEFT": ("BeftConfig", SQUARE),
    "BOFT": ("BOFTConfig", {**SQUARE, "boft_block_size": 4}),
    "Bone": ("BoneConfig", SQUARE),
    "Bone, bat": ("BoneConfig", {**SQUARE, "init_weights": "bat"}),
    "C3A": ("C3AConfig", {**SQUARE, "block_size": 8, "init_weights": True}),
    "DeLoRA": ("DeloraConfig", SQUARE),
    "FourierFT": ("FourierFTConfig", {**SQUARE, "n_frequency": 10, "init_weights": True}),
    "FRoD": ("FrodConfig", SQUARE),
    "GLoRA": ("GloraConfig", SQUARE),
    "GraLoRA": ("GraloraConfig", SQUARE),
    "GraLoRA, hybrid": ("GraloraConfig", {**SQUARE, "hybrid_r": 8}),
    "HiRA": ("HiraConfig", SQUARE),
    "IA3": ("IA3Config", FORWARD),
    "Lily": ("LilyConfig", SQUARE),
    "LoHa": ("LoHaConfig", SQUARE),
    "LoKr": ("LoKrConfig", SQUARE),
    "LoKr, lycoris": ("LoKrConfig", {**SQUARE, "init_weights": "lycoris"}),
    "MiSS": ("MissConfig", SQUARE),
    "MiSS, mini": ("MissConfig", {**SQUARE, "init_weights": "mini", "mini_r": 8}),
    "OFT": ("OFTConfig", SQUARE),
    "PEANuT": ("PeanutConfig", SQUARE),
    "Poly": ("PolyConfig", SQUARE),
    "PSOFT": ("PsoftConfig", SQUARE),
    "PVeRA": ("PveraConfig", SQUARE),
    "RandLoRA": ("RandLoraConfig", {**SQUARE, "r": 16}),
    "RoAd": ("RoadConfig", SQUARE),
    "Shadow": ("ShadowConfig", SQUARE),
    "SHiRA": ("ShiraConfig", SQUARE),
    "SuperTuning": ("SupertuningConfig", SQUARE),
    "TinyLoRA": ("TinyLoraConfig", SQUARE),
    "VeRA": ("VeraConfig", SQUARE),
    "WaveFT": ("WaveFTConfig", {**SQUARE, "n_frequency": 10}),
}
"""Methods whose fresh tensors show that they were never trained: the class of the configuration, and its arguments."""

METHODS_HERE = [kind for kind, (name, options) in METHODS.items() if known_here(name, options)]


def test_common_methods_are_tried_on_every_stack() -> None:
    """Only newer methods may be skipped."""
    assert {"AdaLoRA", "BOFT", "IA3", "LoHa", "LoKr", "OFT", "Poly", "VeRA"} <= set(METHODS_HERE)


@pytest.mark.parametrize("kind", METHODS_HERE)
def test_a_fresh_adapter_of_another_method_was_never_trained(inspected: Inspect, tmp_path: Path, kind: str) -> None:
    """After training it is healthy."""
    name, options = METHODS[kind]
    model = get_peft_model(causal(), getattr(peft, name)(**options))
    model.save_pretrained(str(tmp_path / "fresh"))
    with_every_class_trained(model).save_pretrained(str(tmp_path / "trained"))
    fresh, trained = inspected(tmp_path / "fresh"), inspected(tmp_path / "trained")
    assert (fresh.code, fresh.found) == (1, ["S204", FROZEN_WHEN_RELOADED, NOT_JUDGED_IN_DEPTH])
    assert (trained.code, trained.found) == (0, [FROZEN_WHEN_RELOADED, NOT_JUDGED_IN_DEPTH])


# ----------------------------------------------------------------------------------------------------- moved prefixes

OLD = (
    (r"^base_model\.model\.model\.language_model\.", "base_model.model.model."),
    (r"^base_model\.model\.model\.visual\.", "base_model.model.visual."),
)
"""Map the names of Transformers 4.52 and later to earlier ones."""


def vision_language() -> Any:
    """A tiny Qwen2-VL, with the configuration of this stack's Transformers."""
    text: dict[str, Any] = {
        "vocab_size": 128,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "rope_scaling": {"type": "mrope", "rope_type": "default", "mrope_section": [2, 3, 3]},
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "mlp_ratio": 2}
    nested = Version(transformers.__version__) >= Version("4.52")
    given = {"text_config": text} if nested else text
    config = transformers.Qwen2VLConfig(vision_config=vision, **given)
    torch.manual_seed(0)
    return transformers.Qwen2VLForConditionalGeneration(config)


@pytest.mark.skipif(not hasattr(transformers, "Qwen2VLConfig"), reason="this Transformers has no Qwen2-VL")
@pytest.mark.parametrize("names", ["of this stack", "before 4.52", "of no release"])
def test_renamed_modules_are_predicted_as_they_load(tmp_path: Path, names: str) -> None:
    """Adapters of vision-language models have the names of the Transformers that saved them. The modules without a
    match are the same with and without weights; adapters of this stack always load.
    """
    base = vision_language()
    base.save_pretrained(str(tmp_path / "base"))
    config = LoraConfig(r=4, target_modules=["q_proj", "qkv"], task_type="CAUSAL_LM")
    adapter = tmp_path / "adapter"
    with_values(get_peft_model(base, config)).save_pretrained(str(adapter))
    moved = {"of this stack": (), "before 4.52": OLD, "of no release": ((r"model\.model\.", "model.moved."),)}[names]
    for pattern, by in moved:
        rewritten(adapter, renamed(pattern, by), {})
    if names == "before 4.52" and Version(transformers.__version__) < Version("4.52"):
        saved_here = {re.sub(r"\d+", "0", name.partition(".lora_")[0]) for name in tensors_of(adapter)}
        assert saved_here == {
            "base_model.model.model.layers.0.self_attn.q_proj",
            "base_model.model.visual.blocks.0.attn.qkv",
        }

    def fresh() -> Any:
        return transformers.Qwen2VLForConditionalGeneration.from_pretrained(str(tmp_path / "base"))

    answer, loaded = asked(fresh(), adapter), really_loaded(fresh(), adapter)
    assert (answer["error"], loaded.error) == ("", "")
    assert {module_of(name) for name in answer["missing"] if "lora_B" in name} == loaded.zero
    assert bool(answer["unexpected"]) is bool(loaded.zero)
    assert len(loaded.zero) == {"of this stack": 0, "of no release": 4}.get(names, len(loaded.zero))
