"""Whether a resume loads the weights of the checkpoint that was saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from finetune_compat.cell.script import resuming, trained
from finetune_compat.cell.script.checkpoints import Checkpoints
from finetune_compat.cell.script.stories import Measured
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import Qwen2Config, Qwen2ForCausalLM, Trainer, TrainingArguments


class Linear(nn.Module):
    """A model of one layer, and its loss."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def forward(self, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": self.layer(inputs).pow(2).mean()}


class Lax(Trainer):
    """Saves names without a prefix that it asks for when it loads, and accepts that none is found."""

    def _save(self, output_dir: Any = None, state_dict: Any = None) -> None:
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        torch.save(self.model.layer.state_dict(), Path(output_dir, "weights.pt"))

    def _load_from_checkpoint(self, resume_from_checkpoint: Any, model: Any = None) -> None:
        self.model.load_state_dict(torch.load(Path(resume_from_checkpoint, "weights.pt")), strict=False)


class Strict(Lax):
    """Loads what it has saved."""

    def _load_from_checkpoint(self, resume_from_checkpoint: Any, model: Any = None) -> None:
        self.model.layer.load_state_dict(torch.load(Path(resume_from_checkpoint, "weights.pt")))


@pytest.mark.parametrize(("kind", "unloaded"), [(Lax, (2, 2)), (Strict, (0, 2))])
def test_a_resume_is_compared_with_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Callable[..., Any], unloaded: tuple[int, int]
) -> None:
    """The weights of a training that was just ended are in the model already, so others take their place first."""
    checkpoints = Checkpoints()
    monkeypatch.setattr(kind, "_save_checkpoint", checkpoints.saving(Trainer._save_checkpoint))
    arguments = TrainingArguments(str(tmp_path), max_steps=2, report_to="none", use_cpu=True, save_strategy="no")
    rows = Dataset.from_dict({"inputs": [[1.0, 2.0, 3.0, 4.0]] * 8})
    trainer = kind(model=Linear(), args=arguments, train_dataset=rows)
    trainer.train()
    ended = trainer.model.layer.weight.detach().clone()
    place, found = resuming.made(trainer), Measured()
    trained.resume(trainer, lambda: trainer.train(resume_from_checkpoint=place), found, checkpoints)
    assert found.unloaded == unloaded
    assert torch.allclose(trainer.model.layer.weight, ended, atol=0.01)


def adapted() -> Any:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=16, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    return get_peft_model(Qwen2ForCausalLM(config), LoraConfig(r=2, target_modules=["q_proj"]))


def test_other_tensors_are_not_compared(tmp_path: Path) -> None:
    """Of another type, of another shape, or of another process."""
    checkpoints, model = Checkpoints(), adapted()
    state = SimpleNamespace(global_step=3)
    trainer = SimpleNamespace(model=model, state=state, args=SimpleNamespace(output_dir=str(tmp_path)))
    checkpoints.saving(lambda trainer: None)(trainer)
    assert checkpoints.unloaded(tmp_path / "checkpoint-3", model) == (0, 2)
    assert checkpoints.unloaded(tmp_path / "checkpoint-4", model) is None
    assert checkpoints.unloaded(tmp_path / "checkpoint-3", adapted().half()) is None
    with torch.no_grad():
        next(p for name, p in model.named_parameters() if "lora_B" in name).add_(1)
    assert checkpoints.unloaded(tmp_path / "checkpoint-3", model) == (1, 2)
