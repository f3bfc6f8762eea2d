"""Prompts that a script means to mask: too short a mask, and a marker that no row has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from finetune_compat.cell.script import random_states
from finetune_compat.cell.script.leading_masks import LeadingMasks, PaddedMasks
from finetune_compat.cell.script.markers import missing

MASK = -100
PROMPT = (7, 8, 9, 6)
ROWS = [[*PROMPT, 20 + number, 30, 31] for number in range(8)]
PROMPTS: set[tuple[int, ...]] = {PROMPT}


def masks(masked: Sequence[int], *, together: bool = True, rows: Sequence[Sequence[int]] = ROWS) -> LeadingMasks:
    """Rows of which the first tokens are masked, `masked` of each in turn; one row in a batch, or two."""
    found = LeadingMasks()
    size = 2 if together else 1
    for begin in range(0, len(rows), size):
        ids = torch.tensor(rows[begin : begin + size])
        learned = torch.ones_like(ids, dtype=torch.bool)
        for row in range(len(ids)):
            learned[row, : masked[(begin + row) % len(masked)]] = False
        found.note(ids, learned, torch.ones_like(ids, dtype=torch.bool))
    return found


@pytest.mark.parametrize("masked", [1, 2])
def test_the_length_of_a_tensor_or_of_a_result_masks_too_little(masked: int) -> None:
    assert masks([masked]).of(PROMPTS, special=()) == (masked, 4)


@pytest.mark.parametrize(
    ("found", "prompts", "special"),
    [
        # The whole prompt is masked, nothing is, or more of some rows than of others.
        (masks([4]), PROMPTS, ()),
        (masks([0]), PROMPTS, ()),
        (masks([1, 2]), PROMPTS, ()),
        # The first token has no label, and the script reads no prompt alone; or other prompts.
        (masks([1]), set(), ()),
        (masks([1]), {(1, 2, 3)}, ()),
        # A control token is the prompt, and is masked whole.
        (masks([1]), {(7,)}, ()),
        # The first token begins every row, and is masked for itself.
        (masks([1]), PROMPTS, (7,)),
        # Several sequences in one row.
        (masks([1], together=False), PROMPTS, ()),
        # One row has no prompt.
        (masks([1], rows=[*ROWS, [1, 2, 3, 4, 5, 6, 7], ROWS[0]]), PROMPTS, ()),
    ],
    ids=["whole", "none", "differs", "not read", "others", "control", "special", "packed", "one without"],
)
def test_other_masks_are_right(found: LeadingMasks, prompts: set[tuple[int, ...]], special: Sequence[int]) -> None:
    assert found.of(prompts, special) is None


def padded(masked: Sequence[int], fills: Sequence[int]) -> PaddedMasks:
    """Rows with `fills` padding tokens before each in turn, of whose own tokens the first `masked` are no labels."""
    found = PaddedMasks()
    for number, row in enumerate(ROWS):
        fill = fills[number % len(fills)]
        ids = torch.tensor([[0] * fill + row])
        learned = torch.ones_like(ids, dtype=torch.bool)
        learned[0, : fill + masked[number % len(masked)]] = False
        real = torch.arange(ids.shape[1])[None] >= fill
        found.note(ids, learned, real)
    return found


def test_a_prompt_that_is_masked_by_its_length_with_the_padding_before_it() -> None:
    """Of a prompt of 4 tokens 3, 1 and 0 are masked, behind 1, 3 and 6 padding tokens."""
    assert padded([3, 1, 0], [1, 3, 6]).of(PROMPTS) == len(ROWS)
    # Rows without padding are masked rightly.
    assert padded([4, 2], [0, 2]).of(PROMPTS) == len(ROWS) // 2


@pytest.mark.parametrize(
    ("found", "prompts"),
    [
        (padded([4], [1, 3]), PROMPTS),
        # Nothing is masked, as where the whole row is meant to be learned.
        (padded([0], [4, 6]), PROMPTS),
        (padded([0], [0]), PROMPTS),
        (padded([3, 2], [1, 3]), PROMPTS),
        (padded([3, 1], [1, 3]), {(1, 2)}),
        (padded([3, 1], [1, 3]), set()),
        # Another prompt of the script is as long as what is masked.
        (padded([3], [1]), {PROMPT, PROMPT[:3]}),
    ],
    ids=["whole", "none", "no padding", "no length", "others", "not read", "shorter prompt"],
)
def test_other_masks_behind_padding(found: PaddedMasks, prompts: set[tuple[int, ...]]) -> None:
    assert found.of(prompts) == 0


class Collator:
    """Masks what stands before `marker`, as the collator that TRL had; with `left`, padding is on the left."""

    def __init__(self, marker: Any, *, left: bool = False) -> None:
        self.marker, self.left, self.calls = marker, left, 0

    def __call__(self, features: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        self.calls += 1
        width = max(len(feature["input_ids"]) for feature in features) + 2
        ids, labels = [], []
        for feature in features:
            row = list(feature["input_ids"])
            own = list(row)
            for place in range(len(row)):
                if row[place : place + len(self.marker)] == list(self.marker):
                    own[: place + len(self.marker)] = [MASK] * (place + len(self.marker))
                    break
            fill = width - len(row)
            ids.append([0] * fill + row if self.left else row + [0] * fill)
            labels.append([MASK] * fill + own if self.left else own + [MASK] * fill)
        return {"input_ids": torch.tensor(ids), "labels": torch.tensor(labels)}


def trainer(collator: Any, rows: Any = None) -> Any:
    rows = Dataset.from_list([{"input_ids": row} for row in ROWS]) if rows is None else rows
    return SimpleNamespace(data_collator=collator, train_dataset=rows)


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("marker", [[40, 41], (40,), torch.tensor([40, 41]), np.array([40])])
def test_a_marker_that_no_row_has(marker: Any, left: bool) -> None:
    assert missing(trainer(Collator(marker, left=left)), None) == [int(one) for one in marker]


def test_a_marker_in_a_variable_of_a_function() -> None:
    marker = [40, 41]
    of_class = Collator(marker)

    def collate(features: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        assert marker
        return of_class(features)

    assert missing(trainer(collate, [{"input_ids": ROWS[0], "text": "a text"}]), None) == marker


def test_a_marker_as_text() -> None:
    class OfText(Collator):
        text = "answer:"

    def tokenizer(text: str, **_: object) -> dict[str, list[int]]:
        return {"input_ids": [40, 41] if text == OfText.text else [50]}

    collator = OfText([40, 41])
    collator.marker = tuple(collator.marker)
    assert missing(trainer(collator), tokenizer) == [40, 41]


class Whole(Collator):
    """Learns whole rows, and holds tokens for another purpose: what it masks wherever it stands, such as an image."""

    def __call__(self, features: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        self.calls += 1
        ids = torch.tensor([feature["input_ids"] for feature in features])
        return {"input_ids": ids, "labels": ids.masked_fill(torch.isin(ids, torch.tensor(self.marker)), MASK)}


def refuses(features: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    raise KeyError("pixel_values")


@pytest.mark.parametrize("collator", [Whole([40, 41]), Whole([]), Collator([20]), refuses, None])
def test_other_collators_look_for_no_marker(collator: Callable[..., Any] | None) -> None:
    """The last but two finds its marker in a row: it masks something without help."""
    made = trainer(collator)
    if isinstance(collator, Collator) and collator.marker == [20]:
        made = trainer(collator, [{"input_ids": [7, 8, 9, 20, 30, 31]}])
    assert missing(made, None) == []


def test_a_collator_of_a_library_is_not_called() -> None:
    from transformers import DataCollatorForSeq2Seq

    assert missing(trainer(DataCollatorForSeq2Seq(None)), None) == []


def test_rows_of_a_class_of_the_script_are_not_read() -> None:
    class Rows(torch.utils.data.Dataset[Any]):
        def __getitem__(self, index: int) -> Any:
            raise AssertionError("a row was read")

        def __len__(self) -> int:
            return 8

    assert missing(trainer(Collator([40]), Rows()), None) == []


def test_random_states_are_as_before() -> None:
    before = torch.get_rng_state()
    with random_states.kept():
        torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
