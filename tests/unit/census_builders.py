"""Stage tables of hand-made models, and their census."""

from __future__ import annotations

from collections.abc import Sequence

from finetune_compat.census import lora as loras
from finetune_compat.census.families import find
from finetune_compat.census.lora import Lora
from finetune_compat.census.taken import Taken
from finetune_compat.census.verdicts import Code, findings
from finetune_compat.contract.census import (
    Adapter,
    AdapterKind,
    Effective,
    LoadDtype,
    Quantization,
    StageCount,
    StageTable,
    Weight,
    WeightKind,
)
from finetune_compat.contract.records import Area, Stage

V0_12 = {"trl": "0.12.2", "transformers": "4.46.3", "peft": "0.16.0", "bitsandbytes": "0.47.0", "torch": "2.13.0"}
V0_22 = {"trl": "0.22.2", "transformers": "4.56.0", "peft": "0.17.1", "bitsandbytes": "0.47.0", "torch": "2.13.0"}
LORA = Adapter(AdapterKind.LORA, (8, 64), (64, 8), 1024)


def linear(path: str, *patterns: str, area: Area = Area.LANGUAGE) -> Weight:
    """A linear layer of 28 layers or of 32 blocks, with an adapter if it is matched."""
    count = 32 if area is Area.VISION else 28
    return Weight(path, WeightKind.LINEAR, area, (64, 64), count, True, patterns, LORA if patterns else None)


def parameter(path: str, *shape: int) -> Weight:
    """A parameter outside linear layers."""
    return Weight(path, WeightKind.PARAMETER, Area.LANGUAGE, shape, 28, False, (), None)


def qwen(*patterns: str, vision: Sequence[str] = ()) -> StageTable:
    """Qwen2-VL's attention; the given patterns match q_proj in the language model or qkv in the vision encoder."""
    layers = "model.language_model.layers.[0-27].self_attn"
    return table(
        linear(f"{layers}.q_proj", *patterns),
        linear(f"{layers}.k_proj"),
        linear("model.visual.blocks.[0-31].attn.qkv", *vision, area=Area.VISION),
    )


def table(*weights: Weight) -> StageTable:
    """A stage table of these weights."""
    counts = [StageCount(stage, 0, 100, 0, 1_000_000, {}, {}, {}) for stage in (Stage.LOAD, Stage.PREPARE)]
    peft = StageCount(Stage.PEFT, 1024, 1124, 1024, 1_001_024, {}, {}, {})
    return StageTable("Model", V0_22, (*counts, peft), weights, Effective((), ()), None, 0.1)


def lora(targets: str) -> Lora:
    """A LoRA configuration with these targets, as the command reads them."""
    return loras.from_options(8, 16, targets, "")


def taken(found: StageTable, targets: str, stack: str = "trl0.22-py311") -> Taken:
    """The census of Qwen2-VL."""
    asked = lora(targets)
    return Taken(
        find("qwen2-vl-7b"),
        stack,
        asked,
        Quantization.NF4,
        LoadDtype.BF16,
        found,
        (),
        findings(found, asked, Quantization.NF4),
    )


def codes(found: StageTable, targets: str) -> list[tuple[Code, tuple[str, ...]]]:
    """Return the verdicts with their patterns."""
    return [(finding.code, finding.patterns) for finding in findings(found, lora(targets), Quantization.NF4)]
