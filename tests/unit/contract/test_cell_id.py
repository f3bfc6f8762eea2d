"""The id of a cell: parsing returns what was formatted."""

from __future__ import annotations

import pytest
from finetune_compat.contract.catalog import cells_on
from finetune_compat.contract.cell_id import EXAMPLE, CellId, parse_cell
from finetune_compat.contract.records import DeviceKind
from hypothesis import given
from hypothesis import strategies as st


@given(st.text())
def test_every_text_comes_back(text: str) -> None:
    """The exception is a stack followed by a slash, which is the stack."""
    assert str(parse_cell(text)) == text or text.endswith("/")


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        (EXAMPLE, CellId("trl0.22-py311", "sft-peft-model", "qwen2-nf4-gc", DeviceKind.CPU)),
        ("s/train[qwen2-nf4-nogc]@cuda", CellId("s", "train", "qwen2-nf4-nogc", DeviceKind.CUDA)),
        ("s/train@cpu", CellId("s", "train", device=DeviceKind.CPU)),
        ("s/train", CellId("s", "train")),
        ("s", CellId("s")),
        ("/sft-full[qwen2-full-gc]", CellId("", "sft-full", "qwen2-full-gc")),
        ("s/odd[1]@home.v2@cpu", CellId("s", "odd[1]@home.v2", device=DeviceKind.CPU)),
    ],
)
def test_its_parts(text: str, cell: CellId) -> None:
    """A cell, a script with and without a model, a whole stack, a cell of any stack, a script with an odd name."""
    assert parse_cell(text) == cell


def test_what_is_read_off_it() -> None:
    """The part for -k, the name on any stack, the model and the Python are derived from it."""
    cell = parse_cell(EXAMPLE)
    assert (cell.test, cell.name) == ("sft-peft-model[qwen2-nf4-gc]", "sft-peft-model[qwen2-nf4-gc]@cpu")
    assert (cell.model, cell.python) == ("qwen2", "3.11")
    assert (parse_cell("s/train@cpu").model, parse_cell("s").python) == ("", "")


def test_every_cell_of_the_catalog_has_the_model_it_was_made_with() -> None:
    """Model names may contain dashes."""
    for flow, variant in cells_on(DeviceKind.CPU):
        cell = CellId("s-py311", flow.name, str(variant), DeviceKind.CPU)
        assert (parse_cell(str(cell)), cell.model) == (cell, variant.model)
