"""A tokenizer, a processor and data sets, made on the spot: arithmetic sequences over a small alphabet, easy enough to
begin to learn in ten steps; for vision-language models each with a small picture of itself.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BatchFeature, PreTrainedTokenizerBase, PreTrainedTokenizerFast, ProcessorMixin

from finetune_compat.contract.catalog import COMPLETION_WORDS, ROW_WORDS
from finetune_compat.contract.records import VisionShape

WORDS = 121
USED_WORDS = 20
"""Words that occur. That the others do not is what a model learns first, and what makes ten steps enough to see it."""

VISION_START, VISION_END, IMAGE, VIDEO = 121, 122, 123, 124
PAD, EOS, UNKNOWN = 125, 126, 127

_SPECIAL = {
    "<|vision_start|>": VISION_START,
    "<|vision_end|>": VISION_END,
    "<|image_pad|>": IMAGE,
    "<|video_pad|>": VIDEO,
    "<pad>": PAD,
    "<eos>": EOS,
    "<unk>": UNKNOWN,
}

TRAIN_ROWS, EVAL_ROWS = 64, 16

PICTURE = "<|vision_start|> <|image_pad|> <|vision_end|>"
"""What stands for a picture in a text; a processor repeats the middle token once per merged patch."""

PATCHES = 4
"""Height and width of a picture in patches."""

IGNORED = -100
"""Label of a token the loss leaves out (PyTorch's `ignore_index`)."""


@functools.cache
def tokenizer() -> PreTrainedTokenizerFast:
    """One token per word `w0` to `w120`, plus the marks of a picture, padding, end and unknown."""
    vocabulary = {f"w{i}": i for i in range(WORDS)} | _SPECIAL
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", model_max_length=ROW_WORDS * 2
    )


def text_rows(seed: int) -> tuple[Dataset, Dataset]:
    """Training and held-out rows with a `text` column; no held-out row is a training row."""
    train, held_out = _drawn(seed)
    return _texts(train), _texts(held_out)


def _drawn(seed: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Start and stride of each sequence."""
    rng = random.Random(seed)
    drawn = [(start, stride) for start in range(USED_WORDS) for stride in range(1, USED_WORDS)]
    rng.shuffle(drawn)
    return drawn[:TRAIN_ROWS], drawn[TRAIN_ROWS : TRAIN_ROWS + EVAL_ROWS]


def _texts(drawn: Sequence[tuple[int, int]]) -> Dataset:
    return Dataset.from_dict({"text": [_row(*pair) for pair in drawn]})


def _row(start: int, stride: int) -> str:
    return " ".join(f"w{(start + stride * i) % USED_WORDS}" for i in range(ROW_WORDS))


def token_rows(seed: int, tokenize: PreTrainedTokenizerBase) -> tuple[Dataset, Dataset]:
    """The same rows as token ids, for trainers that do not tokenize."""
    train, held_out = text_rows(seed)
    return _tokenized(train, tokenize), _tokenized(held_out, tokenize)


def _tokenized(rows: Dataset, tokenize: PreTrainedTokenizerBase) -> Dataset:
    return Dataset.from_dict({"input_ids": [tokenize(text)["input_ids"] for text in rows["text"]]})


def completion_rows(seed: int, tokenize: PreTrainedTokenizerBase) -> tuple[Dataset, Dataset]:
    """The same rows as prompt and completion, tokenized as users of a reinforcement fine-tuning set do it: `input_ids`
    with an end token, and `labels` of the completion alone.
    """
    train, held_out = text_rows(seed)
    return _completions(train, tokenize), _completions(held_out, tokenize)


def _completions(rows: Dataset, tokenize: PreTrainedTokenizerBase) -> Dataset:
    split = [_split(text, tokenize) for text in rows["text"]]
    return Dataset.from_dict(
        {
            "input_ids": [prompt + completion for prompt, completion in split],
            "labels": [[IGNORED] * len(prompt) + completion for prompt, completion in split],
        }
    )


def _split(text: str, tokenize: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Ids of the prompt, and of the completion with its end, each tokenized for itself: no token is in both."""
    words = text.split(" ")
    prompt, completion = words[:-COMPLETION_WORDS], words[-COMPLETION_WORDS:]
    ids = tokenize(" " + " ".join(completion), add_special_tokens=False)["input_ids"]
    return tokenize(" ".join(prompt))["input_ids"], [*ids, tokenize.eos_token_id]


def without_labels(rows: Dataset) -> Dataset:
    """The rows with every label masked, as a mask that found no completion leaves them."""
    return rows.map(lambda row: {"labels": [IGNORED] * len(row["labels"])})


def picture_rows(seed: int, vision: VisionShape) -> tuple[Dataset, Dataset]:
    """The same rows behind a picture, with an `image` column of [channels, height, width] in 0 to 1."""
    train, held_out = _drawn(seed)
    return _pictured(train, vision), _pictured(held_out, vision)


def _pictured(drawn: Sequence[tuple[int, int]], vision: VisionShape) -> Dataset:
    texts = [f"{PICTURE} {_row(*pair)} <eos>" for pair in drawn]
    return Dataset.from_dict({"text": texts, "image": [_picture(*pair, vision).tolist() for pair in drawn]})


def _picture(start: int, stride: int, vision: VisionShape) -> torch.Tensor:
    """Stripes whose brightness and slope are the sequence's."""
    side = PATCHES * vision.patch_size
    across = torch.arange(side * side, dtype=torch.float32).reshape(side, side)
    brightness = ((start + stride * across) % USED_WORDS) / USED_WORDS
    return brightness.expand(vision.in_channels, side, side)


class PictureProcessor(ProcessorMixin):
    """Tokenizer and patches in one, as TRL expects of a vision-language model; no torchvision, no Pillow."""

    attributes = ["tokenizer"]  # noqa: RUF012 - ProcessorMixin's own spelling
    tokenizer_class = "AutoTokenizer"
    model_input_names = ["input_ids", "attention_mask", "pixel_values", "image_grid_thw"]  # noqa: RUF012 - likewise

    def __init__(self, tokenizer: PreTrainedTokenizerFast, vision: VisionShape, *, marks_pictures: bool) -> None:
        super().__init__(tokenizer)
        self._vision = vision
        self._marks_pictures = marks_pictures

    def __call__(self, text: list[str], images: list[torch.Tensor], **options: Any) -> BatchFeature:
        """Padded `input_ids` and `attention_mask` [rows, tokens], `pixel_values` [patches, values of a patch],
        `image_grid_thw` [rows, 3] and, where the model's release wants it, `mm_token_type_ids`: 1 for picture tokens.
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
        """Patches in the order the encoder merges them: those that become one token stand together. A still picture
        fills every frame of a temporal patch.
        """
        size, merge = self._vision.patch_size, self._vision.spatial_merge_size
        split = (PATCHES // merge, merge, size)
        blocks = image.reshape(self._vision.in_channels, *split, *split).permute(1, 4, 2, 5, 0, 3, 6)
        frames = blocks.unsqueeze(5).expand(*blocks.shape[:5], self._vision.temporal_patch_size, size, size)
        return frames.reshape(PATCHES * PATCHES, -1)

    def to_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """What is saved beside the tokenizer: nothing, since the shape of a picture is the model's."""
        return {"processor_class": type(self).__name__}


class PictureCollator:
    """A collator as users write it for vision-language models: the processor makes the batch, and the labels are its
    ids without padding and pictures.
    """

    def __init__(self, processor: PictureProcessor) -> None:
        self._processor = processor

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = self._processor(text=[row["text"] for row in rows], images=[torch.tensor(row["image"]) for row in rows])
        labels = batch["input_ids"].clone()
        unlearned = torch.tensor([VISION_START, VISION_END, IMAGE, VIDEO, PAD])
        labels[torch.isin(labels, unlearned)] = IGNORED
        return {**batch, "labels": labels}
