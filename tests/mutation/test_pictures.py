"""Inputs of vision-language cells: real pictures, in the order that the encoder reads, on TRL's own vision path.

Runs inside a stack's environment: nox -s "compat-3.11(trl='0.22')" -- --faults
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import trl
from finetune_compat.cell import adapt, execution
from finetune_compat.cell.data import IGNORED, IMAGE, PAD
from finetune_compat.cell.objectives import sft
from finetune_compat.cell.pictures import PATCHES
from finetune_compat.cell.setup import Setup
from finetune_compat.contract.catalog import QWEN2_5_VL, QWEN2_VL, flow_named
from finetune_compat.contract.plan import Plan, PlannedCell
from finetune_compat.contract.records import Precision, Variant
from packaging.version import Version
from transformers import ProcessorMixin

VISION_PATH = Version(trl.__version__) >= Version("0.22.0")
"""From this release on SFTTrainer supports processors; before, it gets the tokenizer of the processor."""


@pytest.fixture(params=[QWEN2_VL, QWEN2_5_VL])
def setup(plan: Plan, request: pytest.FixtureRequest) -> Setup:
    """The setup of a model in full precision, which loads everywhere."""
    if not any(cell.variant.model == request.param for cell in plan.cells):
        pytest.skip(f"this Transformers has no {request.param}")
    cell = PlannedCell("sft-peft-config", Variant(request.param, Precision.FULL, gradient_checkpointing=False), ())
    return execution.prepared(plan, cell, flow_named(cell.flow))


def arguments(setup: Setup) -> dict[str, Any]:
    """Arguments of SFTTrainer, with a batch of two rows."""
    given = sft.arguments(setup)
    rows = [given["train_dataset"][index] for index in range(2)]
    return {**given, "batch": given["data_collator"](rows), "rows": rows}


def test_sfttrainer_takes_its_vision_path(setup: Setup) -> None:
    """It depends on the class of the processor: with a tokenizer it would treat the model as a text model, silently."""
    given = sft.arguments(setup)
    processing = given.get("processing_class", given.get("tokenizer"))
    assert isinstance(processing, ProcessorMixin) is VISION_PATH
    trainer = trl.SFTTrainer(model=adapt.load_model(setup), peft_config=adapt.lora_config(setup), **given)
    assert getattr(trainer, "_is_vlm", False) is VISION_PATH


def test_patches_are_in_the_order_transformers_makes_them_in(setup: Setup) -> None:
    """The order is that of the image processor: blocks that become one token first, then channels, frames, height and
    width.
    """
    vision, given = setup.model.vision, arguments(setup)
    assert vision is not None
    size, merge, frames = vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size
    pictures = [torch.tensor(row["image"]) for row in given["rows"]]
    expected = []
    for picture in pictures:
        film = torch.stack([picture] * frames)
        grid = (1, frames, vision.in_channels, PATCHES // merge, merge, size, PATCHES // merge, merge, size)
        patches = film.reshape(grid).permute(0, 3, 6, 4, 7, 2, 1, 5, 8)
        expected.append(patches.reshape(PATCHES * PATCHES, vision.in_channels * frames * size * size))
    assert torch.equal(given["batch"]["pixel_values"], torch.cat(expected))
    assert given["batch"]["image_grid_thw"].tolist() == [[1, PATCHES, PATCHES]] * 2
    assert not torch.equal(*pictures)


def test_a_picture_is_as_many_tokens_as_it_has_merged_patches_and_none_is_learned(setup: Setup) -> None:
    """Padding is not learned either; everything else is."""
    vision, batch = setup.model.vision, arguments(setup)["batch"]
    assert vision is not None
    marks = batch["input_ids"] == IMAGE
    assert marks.sum(dim=1).tolist() == [(PATCHES // vision.spatial_merge_size) ** 2] * 2
    assert set(batch["labels"][marks].tolist()) == {IGNORED}
    assert not (batch["labels"] == PAD).any()
    learned = batch["labels"] != IGNORED
    assert torch.equal(batch["labels"][learned], batch["input_ids"][learned])


def test_pictures_reach_the_loss(setup: Setup) -> None:
    """Another picture gives another loss: otherwise an unused encoder would be unnoticed."""
    model, batch = adapt.load_model(setup).eval(), arguments(setup)["batch"]
    with torch.no_grad():
        seen = model(**batch).loss
        dark = model(**{**batch, "pixel_values": torch.zeros_like(batch["pixel_values"])}).loss
        again = model(**batch).loss
    assert torch.equal(seen, again)
    assert not torch.equal(seen, dark)
