"""The instruments of what a training leaves: saves, merges, the best checkpoint, taught tokens and kept gradients."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from finetune_compat.cell.script import after, best, taught
from finetune_compat.cell.script.kept_gradients import KeptGradients
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import Qwen2Config, Qwen2ForCausalLM

IDS = torch.tensor([[3, 5, 7, 2, 9, 4, 8, 6], [9, 8, 7, 6, 5, 4, 3, 2]])
PROBE = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}
FACTOR = 8
"""lora_alpha / r of `adapted`."""


def base() -> Any:
    """A tiny model; the same one every time."""
    torch.manual_seed(0)
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=16,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
        )
    )


def adapted() -> Any:
    """The model with an adapter that is not 0."""
    made = get_peft_model(base(), LoraConfig(r=2, lora_alpha=2 * FACTOR, target_modules=["q_proj", "v_proj"]))
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return made


# ------------------------------------------------------------------------------------------------------------- reloads


def test_an_adapter_that_is_loaded_again_gives_the_same_logits(tmp_path: Path) -> None:
    model = adapted()
    model.save_pretrained(str(tmp_path))
    before = copy.deepcopy(model.state_dict())
    found = after.again(model, tmp_path, PROBE, None)
    assert found is not None and found.difference is not None
    assert (found.what, found.difference < found.allowed) == ("adapter", True)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items()), "the model is untouched"
    assert model.training


def test_an_adapter_of_another_strength_gives_other_logits(tmp_path: Path) -> None:
    model = adapted()
    model.save_pretrained(str(tmp_path))
    config = tmp_path / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "lora_alpha": 2}))
    found = after.again(model, tmp_path, PROBE, None)
    assert found is not None and found.difference is not None and found.difference > found.allowed


def test_an_adapter_that_cannot_be_loaded_says_so(tmp_path: Path) -> None:
    model = adapted()
    model.save_pretrained(str(tmp_path))
    for file in tmp_path.glob("adapter_model.*"):
        file.write_bytes(b"cut off")
    found = after.again(model, tmp_path, PROBE, None)
    assert found is not None and found.difference is None and found.error


@pytest.mark.parametrize("merge", [True, False])
def test_a_merged_model_is_compared_with_the_trained_one(tmp_path: Path, merge: bool) -> None:
    model = adapted()
    trained = after.logits_of(model, PROBE)
    merged = model.merge_and_unload() if merge else model.unload()
    merged.save_pretrained(str(tmp_path))
    found = after.again(merged, tmp_path, PROBE, trained)
    assert found is not None and found.difference is not None
    assert (found.what, found.difference < found.allowed) == ("merged model", merge)


@pytest.mark.parametrize(
    ("factor", "words"),
    [(1, "8 times too small"), (FACTOR, ""), (FACTOR**2, "8 times too large"), (FACTOR / 2, ""), (0, "")],
)
def test_a_merge_by_hand_has_the_scaling_once(factor: float, words: str) -> None:
    """Half of the strength is a choice."""
    model, copied = adapted(), base()
    with torch.no_grad():
        for name, module in model.base_model.model.named_modules():
            if hasattr(module, "lora_A"):
                update = module.lora_B["default"].weight @ module.lora_A["default"].weight
                copied.get_submodule(name).weight += factor * update
    found = after.unscaled(model, copied)
    assert words in found
    assert bool(words) == bool(found)


# ---------------------------------------------------------------------------------------------------------- best model


class Trainer:
    """What a trainer has of its best checkpoint."""

    def __init__(self, loads: bool) -> None:
        self.model, self._loads = adapted(), loads
        self.args = SimpleNamespace(load_best_model_at_end=True)
        self.state = SimpleNamespace(global_step=10, best_model_checkpoint="out/checkpoint-10")

    def add_callback(self, callback: Any) -> None: ...

    def remove_callback(self, callback: Any) -> None: ...

    def _save_checkpoint(self) -> None:
        self.saved = copy.deepcopy(self.model.state_dict())

    def _load_best_model(self) -> None:
        if self._loads:
            self.model.load_state_dict(self.saved)


@pytest.mark.parametrize("loads", [True, False])
def test_the_best_checkpoint_is_loaded_over_other_weights(loads: bool) -> None:
    trainer = Trainer(loads)
    before = copy.deepcopy(trainer.model.state_dict())
    with best.followed(trainer, tried=True) as log:
        trainer._save_checkpoint()
        trainer._load_best_model()
    assert log is not None
    assert (log.compared, log.differ) == (8, 0 if loads else 8)
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())
    assert "_load_best_model" not in vars(trainer)


def test_a_state_dict_is_the_model_itself() -> None:
    model = base()
    assert best.gives_itself(model, model.state_dict())
    assert not best.gives_itself(model, copy.deepcopy(model.state_dict()))
    assert not best.gives_itself(model, base().state_dict())


# ---------------------------------------------------------------------------------------------- taught, gradients


def right(logits: torch.Tensor) -> torch.Tensor:
    return cross_entropy(logits[:, :-1].flatten(0, 1), IDS[:, 1:].flatten())


def twice(logits: torch.Tensor) -> torch.Tensor:
    return cross_entropy(logits[:, :-2].flatten(0, 1), IDS[:, 2:].flatten())


def unshifted(logits: torch.Tensor) -> torch.Tensor:
    return cross_entropy(logits.flatten(0, 1), IDS.flatten())


@pytest.mark.parametrize(("loss", "kind"), [(right, "following"), (twice, "after_next"), (unshifted, "itself")])
def test_the_gradient_shows_what_positions_are_taught(loss: Callable[[torch.Tensor], torch.Tensor], kind: str) -> None:
    """Two rows of eight tokens; the last two positions of a row are left out."""
    model = adapted().train()
    with taught.listening(model) as log:
        loss(model(input_ids=IDS).logits).backward()
    found = log.taught()
    assert found is not None
    assert (found.positions, getattr(found, kind)) == (12, 12)


@pytest.mark.parametrize(("kept", "first"), [(True, 2), (False, None)])
def test_gradients_of_the_step_before_are_found(kept: bool, first: int | None) -> None:
    """Clipping multiplies, and is no difference."""
    torch.manual_seed(0)
    model = nn.Linear(6, 6)
    log = KeptGradients(list(model.parameters()))
    old: dict[str, Any] = {}
    for _ in range(6):
        model.zero_grad()
        model(torch.randn(4, 6)).pow(2).sum().backward()
        for parameter in model.parameters():
            assert parameter.grad is not None
            if kept:
                parameter.grad += old.get(parameter, 0)
                old[parameter] = parameter.grad.clone()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        log.on_pre_optimizer_step(None, None, None)
    log.detach()
    assert log.first() == first
