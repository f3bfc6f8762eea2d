"""Load a saved adapter under a stack: the stack's PEFT loads its names and shapes into a base without weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_compat.census.families import find
from finetune_compat.contract.errors import AdapterError
from finetune_compat.inspect.beside import token_rows
from finetune_compat.inspect.saved import Saved
from finetune_compat.machine.foreign import parsed
from finetune_compat.stacks.ask import ask, stack_python
from finetune_compat.stacks.matrix import read_matrix

MODULE = "finetune_compat.cell.adapter_loading"


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A tensor whose shape differs from that of the model's tensor with the same name."""

    name: str
    saved: tuple[int, ...]
    model: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Loading:
    """The result of loading the adapter into a base under a stack. Names are those of PEFT inside a model."""

    stack: str
    """Name with its Python, for example `trl0.22-py311`."""
    versions: Mapping[str, str]
    """Versions of PEFT, Transformers and torch."""
    base: str
    """Class of the base model; empty if it could not be built."""
    tied: bool | None
    """Whether the base ties its input embeddings to its output layer; None if its config does not define it."""
    error: str
    """The error that ended loading, other than a shape mismatch; empty if there is none."""
    untold: str
    """The error of a method that calculates with values while it is loaded, so that nothing can be foretold from names
    and shapes; empty if there is none."""
    fitting: int
    """Number of tensors with a place of the same shape in the model."""
    missing: tuple[str, ...]
    """Adapter parameters of the model without a tensor in the file: they keep their initial values."""
    unexpected: tuple[str, ...]
    """Tensors of the file without a place in the model: PEFT drops them."""
    mismatched: tuple[Mismatch, ...]
    unknown_options: tuple[str, ...]
    """Options of the file that this PEFT does not know."""


def load_under(saved: Saved, base: str, stack: str) -> Loading:
    """Load `saved` into `base` under the stack called `stack`.

    Args:
        saved: the adapter.
        base: directory of a saved model, its config.json, or the name of a family whose config the project ships.
        stack: a stack of the matrix, for example `trl0.22`.

    Raises:
        AdapterError, UnknownName: there is no such base.
        CompatError: as for `stack_python` and `ask`.
    """
    config = _base_config(base)
    there = stack_python(read_matrix(), stack)
    answer = ask(there, MODULE, {"adapter": saved.config_raw, "tensors": shapes_of(saved), "base": config})
    return loading_of(there.name, answer)


def vocabulary_of(saved: Saved, base: str | None) -> int | None:
    """Rows of the vocabulary of `base`, or of the adapter's recorded base if that is a directory; None if not known.

    The base's own tokenizer may need more rows than its config has.

    Raises:
        AdapterError, UnknownName: there is no such base.
    """
    recorded = saved.config.base_model_name_or_path or ""
    if base is None and not Path(recorded, "config.json").is_file():
        return None
    config = _base_config(base or recorded)
    text = config.get("text_config")
    rows = config.get("vocab_size", text.get("vocab_size") if isinstance(text, dict) else None)
    return max(rows, token_rows(Path(base or recorded)) or 0) if isinstance(rows, int) else None


def shapes_of(saved: Saved) -> dict[str, list[Any]]:
    """The dtype and shape of each saved tensor, by name, as `MODULE` wants them."""
    return {tensor.name: [tensor.dtype, tensor.shape] for tensor in saved.weights.tensors}


def _base_config(base: str) -> Mapping[str, Any]:
    path = Path(base)
    if not path.exists() and path.suffix != ".json" and "/" not in base:
        return find(base).config  # a family, or an error that lists all families
    file = path / "config.json" if path.is_dir() else path
    try:
        config = parsed(file.read_bytes())
    except FileNotFoundError:
        problem = "there is no such base"
    except ValueError as error:
        problem = str(error)
    else:
        if isinstance(config, dict):
            return config
        problem = "must hold a JSON object"
    raise AdapterError(
        problem,
        where=str(file),
        meaning="The base is built from its config.json alone; its weights are not needed.",
        todo="Give the directory of a saved model, its config.json, or a family (compat census --list).",
    )


def loading_of(stack: str, answer: Mapping[str, Any]) -> Loading:
    """The answer of `MODULE` under the stack called `stack`."""
    return Loading(
        stack=stack,
        versions=answer["versions"],
        base=answer["base"],
        tied=answer["tied"],
        error=answer["error"],
        untold=answer["untold"],
        fitting=answer["fitting"],
        missing=tuple(answer["missing"]),
        unexpected=tuple(answer["unexpected"]),
        mismatched=tuple(Mismatch(name, tuple(saved), tuple(model)) for name, saved, model in answer["mismatched"]),
        unknown_options=tuple(answer["unknown_options"]),
    )
