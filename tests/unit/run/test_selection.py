"""Selection of cells."""

from __future__ import annotations

import pytest
from finetune_compat.checks.ledger import Ledger
from finetune_compat.contract.catalog import CATALOG
from finetune_compat.contract.errors import CompatError, UnknownName
from finetune_compat.contract.records import DeviceKind
from finetune_compat.run import stack_run
from finetune_compat.run.selection import AskedCells, cells_of, stacks_of
from finetune_compat.stacks.matrix import Matrix, read_matrix

VERSIONS = {"trl": "0.22.2", "transformers": "4.56.0", "peft": "0.17.1", "bitsandbytes": "0.47.0"}


@pytest.fixture(scope="module")
def matrix() -> Matrix:
    return read_matrix()


def names(matrix: Matrix, asked: AskedCells, python: str = "3.11") -> list[str]:
    return [on.name for on in stacks_of(matrix, asked, python)]


def test_without_a_name_every_stack_of_that_python_is_selected(matrix: Matrix) -> None:
    """The stacks are in the order of the matrix."""
    assert names(matrix, AskedCells()) == [stack.on("3.11") for stack in matrix.stacks if "3.11" in stack.pythons]
    assert names(matrix, AskedCells(), "3.12") == [
        stack.on("3.12") for stack in matrix.stacks if "3.12" in stack.pythons
    ]


def test_names_globs_and_axes_narrow_it(matrix: Matrix) -> None:
    """A name with a Python requests that Python, whatever --python says."""
    assert names(matrix, AskedCells(stacks=("trl0.22",))) == ["trl0.22-py311"]
    assert names(matrix, AskedCells(stacks=("trl1.16-py312",))) == ["trl1.16-py312"]
    assert names(matrix, AskedCells(axes=("peft",))) == [s.on("3.11") for s in matrix.stacks if s.package == "peft"]


def test_a_session_has_the_name_that_nox_gives_it(matrix: Matrix) -> None:
    """It is the name that a user types."""
    [on] = stacks_of(matrix, AskedCells(stacks=("trl0.22",)), "3.11")
    assert on.session == "compat-3.11(trl='0.22')"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            AskedCells(stacks=("trl9.9",)),
            (
                "matrices/stacks.toml: there is no stack 'trl9.9'\nNames that look like it: trl1.9, trl0.9, trl0.29.\n"
                "`compat stacks` lists all of them."
            ),
        ),
        (
            AskedCells(axes=("torch",)),
            "--axis: there is no axis 'torch'\nNo name looks like it.\nThere are: trl, transformers, peft.",
        ),
        (
            AskedCells(stacks=("trl0.2?",), axes=("peft",)),
            "trl0.2? --axis peft: no stack matches all of these\nName a stack of that axis, or use fewer filters.",
        ),
    ],
)
def test_a_name_that_matches_nothing_is_refused(matrix: Matrix, asked: AskedCells, said: str) -> None:
    """The other stacks do not run instead."""
    with pytest.raises(UnknownName) as caught:
        stacks_of(matrix, asked, "3.11")
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("asked", "python", "said"),
    [
        (
            AskedCells(),
            "3.9",
            (
                "--python: no stack is locked for Python 3.9\n"
                "There are: 3.11, 3.12. `compat stacks` lists the Pythons of each stack."
            ),
        ),
        (
            AskedCells(stacks=("trl0.4",)),
            "3.12",
            (
                "trl0.4: not locked for Python 3.12\n"
                "It is locked for: 3.11. Give one of these with --python, or name the stack with its Python: "
                "trl0.4-py311."
            ),
        ),
    ],
)
def test_an_unknown_python_is_refused_with_the_known_ones(
    matrix: Matrix, asked: AskedCells, python: str, said: str
) -> None:
    """The message does not say that no cell matches."""
    with pytest.raises(UnknownName) as caught:
        stacks_of(matrix, asked, python)
    assert str(caught.value) == said


def test_flows_variants_and_words_narrow_the_cells() -> None:
    """They work alone and together."""
    cells = stack_run.planned_cells(Ledger(issues=()), DeviceKind.CPU, VERSIONS)
    of_flow = cells_of(cells, AskedCells(flows=("sft-peft-*",)))
    assert {cell.flow for cell in of_flow} == {c.flow for c in cells if c.flow.startswith("sft-peft-")}
    of_variant = cells_of(cells, AskedCells(variants=("qwen2-nf4-*",)))
    assert {str(cell.variant) for cell in of_variant} == {
        str(c.variant) for c in cells if str(c.variant).startswith("qwen2-nf4-")
    }
    both = cells_of(cells, AskedCells(flows=("sft-full",), variants=("qwen2-*",), words="not nogc"))
    assert both and all(c.flow == "sft-full" and c.variant.gradient_checkpointing for c in both)
    assert cells_of(cells, AskedCells()) == cells


def test_an_unknown_flow_and_an_invalid_expression_are_refused() -> None:
    """The message has the place and what to write instead."""
    cells = stack_run.planned_cells(Ledger(issues=()), DeviceKind.CPU, VERSIONS)
    with pytest.raises(UnknownName) as unknown:
        cells_of(cells, AskedCells(flows=("sft-pefd-model",)))
    assert str(unknown.value) == (
        "--flows: there is no flow 'sft-pefd-model'\n"
        "Names that look like it: sft-peft-model, kto-peft-model, dpo-peft-model.\n"
        f"There are: {', '.join(flow.name for flow in CATALOG)}."
    )
    with pytest.raises(CompatError) as wrong:
        cells_of(cells, AskedCells(words="a and and b"))
    assert str(wrong.value) == (
        "-k: 'a and and b' is not a valid expression\n"
        "Two names need `and` or `or` between them, and every parenthesis must be closed.\n"
        "Write it like this: -k 'sft-peft-model and not (int8 or vision)'."
    )
