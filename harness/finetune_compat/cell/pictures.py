"""Rows with pictures, and the processor and collator that users of vision-language models pass to SFTTrainer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from transformers import BatchFeature, PreTrainedTokenizerFast, ProcessorMixin

from finetune_compat.cell.data import IGNORED, IMAGE, PAD, USED_WORDS, VIDEO, VISION_END, VISION_START, drawn, row
from finetune_compat.contract.records import VisionShape

PICTURE = "<|vision_start|> <|image_pad|> <|vision_end|>"
"""The placeholder of a picture in a text. A processor repeats the middle token once per merged patch."""

PATCHES = 4
"""Height and width of a picture in patches."""


def rows(seed: int, vision: VisionShape) -> tuple[Dataset, Dataset]:
    """Training and held-out rows: a `text` column that begins with a picture, and an `image` column of [channels,
    height, width] with values from 0 to 1.
    """
    train, held_out = drawn(seed)
    return _pictured(train, vision), _pictured(held_out, vision)


def _pictured(pairs: Sequence[tuple[int, int]], vision: VisionShape) -> Dataset:
    texts = [f"{PICTURE} {row(*pair)} <eos>" for pair in pairs]
    return Dataset.from_dict({"text": texts, "image": [_picture(*pair, vision).tolist() for pair in pairs]})


def _picture(start: int, stride: int, vision: VisionShape) -> torch.Tensor:
    """Stripes whose brightness and slope depend on the sequence."""
    side = PATCHES * vision.patch_size
    across = torch.arange(side * side, dtype=torch.float32).reshape(side, side)
    brightness = ((start + stride * across) % USED_WORDS) / USED_WORDS
    return brightness.expand(vision.in_channels, side, side)


class PictureProcessor(ProcessorMixin):
    """Tokenizer and image processor in one, as TRL expects for a vision-language model. It does not need torchvision or
    Pillow.
    """

    attributes = ["tokenizer"]  # noqa: RUF012 - declared so by ProcessorMixin
    tokenizer_class = "AutoTokenizer"
    model_input_names = ["input_ids", "attention_mask", "pixel_values", "image_grid_thw"]  # noqa: RUF012 - likewise

    def __init__(self, tokenizer: PreTrainedTokenizerFast, vision: VisionShape, *, marks_pictures: bool) -> None:
        super().__init__(tokenizer)
        self._vision = vision
        self._marks_pictures = marks_pictures

    def __call__(self, text: list[str], images: list[torch.Tensor], **options: Any) -> BatchFeature:
        """Padded `input_ids` and `attention_mask` [rows, tokens], `pixel_values` [patches, values of a patch],
        `image_grid_thw` [rows, 3] and, if the release of the model takes it, `mm_token_type_ids`: 1 for picture tokens.
        """
        merged = (PATCHES // self._vision.spatial_merge_size) ** 2
        expanded = [row.replace("<|image_pad|>", " ".join(["<|image_pad|>"] * merged)) for row in text]
        tokens = self.tokenizer(expanded, padding=True, return_tensors="pt")
        batch = {
            "input_ids": tokens["input_ids"],
            "attention_mask": tokens["attention_mask"],
            "pixel_values": torch.cat([self._patches(image) for image in images]),
            "image_grid_thw": torch.tensor([[1, PATCHES, PATCHES]] * len(images)),
        }
        if self._marks_pictures:
            batch["mm_token_type_ids"] = (tokens["input_ids"] == IMAGE).long()
        return BatchFeature(batch)

    def _patches(self, image: torch.Tensor) -> torch.Tensor:
        """Patches in the order in which the encoder merges them: the patches of one token are adjacent. The picture is
        repeated for every frame of a temporal patch.
        """
        size, merge = self._vision.patch_size, self._vision.spatial_merge_size
        split = (PATCHES // merge, merge, size)
        blocks = image.reshape(self._vision.in_channels, *split, *split).permute(1, 4, 2, 5, 0, 3, 6)
        frames = blocks.unsqueeze(5).expand(*blocks.shape[:5], self._vision.temporal_patch_size, size, size)
        return frames.reshape(PATCHES * PATCHES, -1)

    def to_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The saved configuration. It has no image settings, because they are those of the model."""
        return {"processor_class": type(self).__name__}


class PictureCollator:
    """A collator as users write it for vision-language models: the processor makes the batch, and the labels are its
    ids, with padding and pictures masked.
    """

    def __init__(self, processor: PictureProcessor) -> None:
        self._processor = processor

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = self._processor(text=[row["text"] for row in rows], images=[torch.tensor(row["image"]) for row in rows])
        labels = batch["input_ids"].clone()
        unlearned = torch.tensor([VISION_START, VISION_END, IMAGE, VIDEO, PAD])
        labels[torch.isin(labels, unlearned)] = IGNORED
        return {**batch, "labels": labels}
